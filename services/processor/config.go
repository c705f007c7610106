package processor

import (
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// ProcessorConfig is what an operator sets of the processor.
type ProcessorConfig struct {
	Sinks                 []string      `koanf:"sinks" live:"true" file:"true" doc:"Where changes go: jsonl:PATH, postgres:URL, webhook:URL or nats, with NAME= before it to name the sink (needed for two of a kind). The name stands for the place: a new name is loaded from the beginning. Leave the password out of the URL: PostgreSQL's PGPASSWORD and PGPASSFILE work, or give the setting as a file. User and password of a database, and PGPASSFILE, are read again when their file changes."`
	WebhookSecrets        secret.String `koanf:"webhook_secrets" live:"true" doc:"What the requests of the webhook sinks are signed with: NAME=whsec_BASE64 by the sink's name, two separated by commas while one replaces the other, several sinks by semicolons or lines. Read again when its file changes and on SIGHUP."`
	WebhookBatch          int           `koanf:"webhook_batch" doc:"How many changes a request of a webhook sink carries at most. 1: each request is one CloudEvent; more: a batch of them."`
	WebhookConcurrency    int           `koanf:"webhook_concurrency" doc:"How many requests to one webhook sink are under way at most, in this replica."`
	WebhookRate           float64       `koanf:"webhook_rate" doc:"How many requests a second are sent to one webhook sink at most, by this replica; 0 is no limit."`
	WebhookAllow          []string      `koanf:"webhook_allow" doc:"Private networks (CIDR) that webhook sinks may connect to; by default only public addresses."`
	WebhookHTTPHosts      []string      `koanf:"webhook_http_hosts" doc:"Hosts that webhook sinks may reach without TLS, beside this machine. Without it http:// is refused: the documents would be readable on the way."`
	WebhookProxy          secret.String `koanf:"webhook_proxy" doc:"Proxy (http, https or socks5 URL) for the requests of webhook sinks; HTTP_PROXY and HTTPS_PROXY of the environment count for the API of QuickBooks, not for them. The proxy then decides which addresses are connected to."`
	WebhookCAFile         string        `koanf:"webhook_ca_file" doc:"PEM file with certificate authorities that webhook sinks trust beside the system's."`
	WebhookClientCertFile string        `koanf:"webhook_client_cert_file" doc:"PEM file with the certificate that webhook sinks show to endpoints that ask for one (mTLS). Read again for each connection."`
	WebhookClientKeyFile  string        `koanf:"webhook_client_key_file" doc:"PEM file with the key of that certificate."`
	WebhookHeaders        secret.String `koanf:"webhook_headers" live:"true" doc:"Headers of the requests of a webhook sink: NAME=Header: value by the sink's name, one a line. Read again when its file changes and on SIGHUP."`
	SinkFilters           []string      `koanf:"sink_filters" doc:"What a sink is given, if not everything: NAME realm=R|R entity=E|E operation=O|O, with one of the three at least. Operations are create, update, delete, merge, void and emailed; what a scan found may have been any of them and passes. What a filter kept back is loaded once it lets it through."`
	EventOnly             []string      `koanf:"event_only" doc:"What is delivered without being read, as an event without a document: ENTITY, REALM/ENTITY or REALM/*. It costs no call of the API."`
	AppAliases            []string      `koanf:"app_aliases" doc:"Apps that were renamed in ingress.apps: OLD=NEW. Both names are then the same app. Webhooks of an app that is not the company's are refused, and companies keep the name they were connected under."`
	PostgresTables        string        `koanf:"postgres_tables" doc:"one: the Postgres sinks keep all entities in the table ledgerfeed.entity; per_entity: each type in a partition of it (ledgerfeed.invoice), rows that are there move at the start."`
	PostgresSetup         string        `koanf:"postgres_setup" doc:"Who makes and migrates the tables of the Postgres sinks: create (the processor, at its start) or verify (ledgerfeed setup does; the processor compares them and is not ready until they are there). With verify the user in processor.sinks needs the right to read and write rows only."`
	PostgresLog           bool          `koanf:"postgres_log" doc:"Whether the Postgres sinks also add each change to the change log, ledgerfeed.change."`
	PostgresLogKeep       time.Duration `koanf:"postgres_log_keep" doc:"How long a row of the change log stays; 0 is for ever."`
	PostgresGapsKeep      time.Duration `koanf:"postgres_gaps_keep" doc:"How long the Postgres sinks keep a change that a scan found before any webhook told of it, in ledgerfeed.gap; 0 is for ever."`
	JSONLMaxBytes         int64         `koanf:"jsonl_max_bytes" doc:"From this size a file of a jsonl sink is put aside, under a name with the time, and a new one begun; 0 is never."`
	JSONLMaxAge           time.Duration `koanf:"jsonl_max_age" doc:"How long after its first line a file of a jsonl sink is put aside; 0 is never."`
	JSONLKeep             int           `koanf:"jsonl_keep" doc:"How many files put aside stay of a jsonl sink, the oldest are removed; 0 keeps all."`
	BatchSize             int           `koanf:"batch_size" doc:"How many records one Query reads, at most; 1 to 400."`
	CoalesceWindow        time.Duration `koanf:"coalesce_window" doc:"The least time between two reads of one entity type of a realm that are not full: the first event of an idle queue is read at once, what comes within the window after that is read together at its end. 0 turns it off; while a call is under way events gather in any case."`
	Parallel              int           `koanf:"parallel" doc:"How many batches are worked on at the same time."`
	RealmParallel         int           `koanf:"realm_parallel" doc:"How many of those may belong to one realm."`
	AckWait               time.Duration `koanf:"ack_wait" doc:"How long after a crash of a replica its messages go to another one."`
	MaxAckPending         int           `koanf:"max_ack_pending" doc:"How many messages of a sixteenth of the realms may be under way or wait for their next try, over all replicas: what a realm that floods may have before it holds up others of its sixteenth."`
	MaxInHand             int           `koanf:"max_in_hand" doc:"How many bytes of messages this replica takes at most before it has delivered them, some 5 KiB for each message included; what is beyond goes to other replicas, or waits."`
	ReadTimeout           time.Duration `koanf:"read_timeout" doc:"How long a read may take, the wait for its turn included; then its messages are tried again later."`
	WriteTimeout          time.Duration `koanf:"write_timeout" doc:"How long one write to a sink may take. Where there are other sinks, after 5 s the changes go to its retry queue, and it is given the whole time from there."`
	DrainTimeout          time.Duration `koanf:"drain_timeout" doc:"How long a stop waits for what is in hand; the rest goes back to the stream."`
}

// minInHand is room for the largest message, several times.
const minInHand = 1 << 20

// maxBatch keeps a statement of ids within 6 KiB of URL, and the answer within
// the API's 1,000 rows.
const maxBatch = 400

// DefaultProcessorConfig suits one server of a few cores.
func DefaultProcessorConfig() ProcessorConfig {
	return ProcessorConfig{
		WebhookBatch:       1,
		WebhookConcurrency: 8,
		PostgresTables:     tablesOne,
		PostgresSetup:      string(stream.SetupCreate),
		PostgresLog:        true,
		PostgresGapsKeep:   365 * 24 * time.Hour,
		JSONLMaxBytes:      1 << 30,
		BatchSize:          maxBatch,
		CoalesceWindow:     250 * time.Millisecond,
		Parallel:           64,
		RealmParallel:      4,
		AckWait:            time.Minute,
		MaxAckPending:      16_384,
		MaxInHand:          64 << 20,
		ReadTimeout:        90 * time.Second,
		WriteTimeout:       30 * time.Second,
		DrainTimeout:       20 * time.Second,
	}
}

// Validate names every setting that cannot be used, its value and what would do.
func (c ProcessorConfig) Validate() error {
	var errs []error
	bad := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("processor.%s %v: %s", key, value, want))
		}
	}
	specs, err := parseSinks(c.Sinks)
	errs = append(errs, err)
	for _, spec := range specs {
		errs = append(errs, spec.checkPlain(c.WebhookHTTPHosts))
	}
	_, err = parseSecrets(c.WebhookSecrets)
	errs = append(errs, err)
	_, err = parsePrefixes(c.WebhookAllow)
	errs = append(errs, err)
	_, err = parseHeaders(c.WebhookHeaders)
	errs = append(errs, err)
	bad((c.WebhookClientCertFile == "") == (c.WebhookClientKeyFile == ""), "webhook_client_cert_file", c.WebhookClientCertFile, "give both processor.webhook_client_cert_file and processor.webhook_client_key_file, or none")
	_, err = parseFilters(c.SinkFilters)
	errs = append(errs, err)
	_, err = parseEventOnly(c.EventOnly)
	errs = append(errs, err)
	_, err = parseAppNames(c.AppAliases)
	errs = append(errs, err)
	bad(c.WebhookBatch >= 1 && c.WebhookBatch <= 1000, "webhook_batch", c.WebhookBatch, "give 1 to 1000")
	bad(c.WebhookConcurrency >= 1, "webhook_concurrency", c.WebhookConcurrency, "give at least 1")
	bad(c.WebhookRate >= 0, "webhook_rate", c.WebhookRate, "give 0 or more requests a second")
	bad(c.PostgresTables == tablesOne || c.PostgresTables == tablesPerEntity, "postgres_tables", c.PostgresTables, "give one or per_entity")
	bad(c.PostgresSetup == "" || c.PostgresSetup == string(stream.SetupCreate) || c.PostgresSetup == string(stream.SetupVerify), "postgres_setup", c.PostgresSetup, "give create or verify")
	bad(c.PostgresLogKeep == 0 || c.PostgresLogKeep >= time.Minute, "postgres_log_keep", c.PostgresLogKeep, "give at least 1m, or 0")
	bad(c.PostgresGapsKeep == 0 || c.PostgresGapsKeep >= time.Hour, "postgres_gaps_keep", c.PostgresGapsKeep, "give at least 1h, or 0")
	bad(c.JSONLMaxBytes >= 0, "jsonl_max_bytes", c.JSONLMaxBytes, "give a number of bytes or 0")
	bad(c.JSONLMaxAge == 0 || c.JSONLMaxAge >= time.Second, "jsonl_max_age", c.JSONLMaxAge, "give at least 1s, or 0")
	bad(c.JSONLKeep >= 0, "jsonl_keep", c.JSONLKeep, "give a number of files or 0")
	bad(c.BatchSize >= 1 && c.BatchSize <= maxBatch, "batch_size", c.BatchSize, "give 1 to 400")
	bad(c.CoalesceWindow >= 0 && c.CoalesceWindow <= time.Minute, "coalesce_window", c.CoalesceWindow, "give 0 to 1m")
	bad(c.Parallel >= 1, "parallel", c.Parallel, "give at least 1")
	bad(c.RealmParallel >= 1, "realm_parallel", c.RealmParallel, "give at least 1")
	bad(c.AckWait >= time.Second, "ack_wait", c.AckWait, "give at least 1s")
	bad(c.MaxAckPending >= 1, "max_ack_pending", c.MaxAckPending, "give at least 1")
	bad(c.MaxInHand >= minInHand, "max_in_hand", c.MaxInHand, "give at least 1 MiB")
	bad(c.ReadTimeout >= time.Second, "read_timeout", c.ReadTimeout, "give at least 1s")
	bad(c.WriteTimeout >= time.Millisecond, "write_timeout", c.WriteTimeout, "give a positive duration")
	bad(c.DrainTimeout >= 0, "drain_timeout", c.DrainTimeout, "give a positive duration or 0")
	return errors.Join(errs...)
}
