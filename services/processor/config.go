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
	Sinks                 []string      `koanf:"sinks" live:"true" file:"true" doc:"Sinks for changes: jsonl:PATH, postgres:URL, webhook:URL or nats, with NAME= in front to name the sink (required for two of a kind). The name identifies the sink: a new name is loaded in full. Leave the password out of the URL: use PGPASSWORD, PGPASSFILE or a file for the setting. User and password of a database, and PGPASSFILE, are reloaded when their file changes."`
	WebhookSecrets        secret.String `koanf:"webhook_secrets" live:"true" doc:"Signing secrets of webhook sinks: NAME=whsec_BASE64 by sink name. During a rotation give two separated by commas; separate sinks by semicolons or lines. Reloaded when its file changes and on SIGHUP."`
	WebhookBatch          int           `koanf:"webhook_batch" doc:"Maximum number of changes per request of a webhook sink. With 1 each request is one CloudEvent, with more a batch of them."`
	WebhookConcurrency    int           `koanf:"webhook_concurrency" doc:"Maximum number of concurrent requests to one webhook sink, per replica."`
	WebhookRate           float64       `koanf:"webhook_rate" doc:"Maximum requests per second to one webhook sink, per replica (0 = no limit)."`
	WebhookAllow          []string      `koanf:"webhook_allow" doc:"Private networks (CIDR) that webhook sinks may connect to. By default only public addresses are allowed."`
	WebhookHTTPHosts      []string      `koanf:"webhook_http_hosts" doc:"Hosts that webhook sinks may reach without TLS, in addition to this machine. Other http:// URLs are refused, because documents would travel unencrypted."`
	WebhookProxy          secret.String `koanf:"webhook_proxy" doc:"Proxy (http, https or socks5 URL) for requests of webhook sinks; HTTP_PROXY and HTTPS_PROXY apply only to the QuickBooks API. The proxy then decides which addresses are reached."`
	WebhookCAFile         string        `koanf:"webhook_ca_file" doc:"PEM file with certificate authorities that webhook sinks trust in addition to the system's."`
	WebhookClientCertFile string        `koanf:"webhook_client_cert_file" doc:"PEM file with the client certificate of webhook sinks, for endpoints that require mTLS. Read for each connection."`
	WebhookClientKeyFile  string        `koanf:"webhook_client_key_file" doc:"PEM file with the key of that certificate."`
	WebhookHeaders        secret.String `koanf:"webhook_headers" live:"true" doc:"Additional request headers of webhook sinks: NAME=Header: value by sink name, one per line. Reloaded when its file changes and on SIGHUP."`
	SinkFilters           []string      `koanf:"sink_filters" doc:"Filters per sink: NAME realm=R|R entity=E|E operation=O|O, with at least one of the three; default: everything. Operations: create, update, delete, merge, void, emailed; changes found by a scan pass, since their operation is not known. Records that a filter withheld are loaded once it admits them."`
	EventOnly             []string      `koanf:"event_only" doc:"Entities to deliver without reading them, as an event without a document: ENTITY, REALM/ENTITY or REALM/*. Saves the API call."`
	AppAliases            []string      `koanf:"app_aliases" doc:"Renamed apps of ingress.apps: OLD=NEW; both names then stand for the same app. Webhooks from an app other than the company's are refused, and companies keep the name they were connected under."`
	PostgresTables        string        `koanf:"postgres_tables" doc:"Table layout of Postgres sinks. one: all entities in ledgerfeed.entity; per_entity: each type in a partition of it (ledgerfeed.invoice), existing rows are moved at startup."`
	PostgresSetup         string        `koanf:"postgres_setup" doc:"Who creates and migrates the tables of Postgres sinks. create: the processor, at startup; verify: ledgerfeed setup, and the processor is not ready until the tables match. With verify the user in processor.sinks only needs to read and write rows."`
	PostgresLog           bool          `koanf:"postgres_log" doc:"Also append each change to the change log of Postgres sinks, ledgerfeed.change."`
	PostgresLogKeep       time.Duration `koanf:"postgres_log_keep" doc:"Retention of rows in the change log (0 = forever)."`
	PostgresGapsKeep      time.Duration `koanf:"postgres_gaps_keep" doc:"Retention of gaps (changes that a scan found before any webhook) in ledgerfeed.gap of Postgres sinks (0 = forever)."`
	JSONLMaxBytes         int64         `koanf:"jsonl_max_bytes" doc:"Rotate the file of a jsonl sink when it exceeds this size in bytes (0 = never)."`
	JSONLMaxAge           time.Duration `koanf:"jsonl_max_age" doc:"Rotate the file of a jsonl sink this long after its first line (0 = never)."`
	JSONLKeep             int           `koanf:"jsonl_keep" doc:"Number of rotated files to keep per jsonl sink; the oldest are deleted (0 = all)."`
	BatchSize             int           `koanf:"batch_size" doc:"Maximum number of records per Query, 1 to 400."`
	CoalesceWindow        time.Duration `koanf:"coalesce_window" doc:"Minimum time between two partial reads of one entity type of a realm. The first event of an idle queue is read at once; events within the window are read together at its end (0 = off). Events that arrive during a call are always read together."`
	Parallel              int           `koanf:"parallel" doc:"Maximum number of batches in progress at the same time."`
	RealmParallel         int           `koanf:"realm_parallel" doc:"Maximum number of those batches for one realm."`
	AckWait               time.Duration `koanf:"ack_wait" doc:"Time after a crash of a replica until its messages are redelivered to another."`
	MaxAckPending         int           `koanf:"max_ack_pending" doc:"Maximum number of messages in flight or waiting for a retry per partition (a sixteenth of the realms), across all replicas. It limits how far a busy realm delays others of its partition."`
	MaxInHand             int           `koanf:"max_in_hand" doc:"Maximum bytes of unacknowledged messages in this replica, including about 5 KiB overhead per message. Further messages go to other replicas or wait."`
	ReadTimeout           time.Duration `koanf:"read_timeout" doc:"Maximum time for one read, including its wait for the rate limiter; then its messages are retried later."`
	WriteTimeout          time.Duration `koanf:"write_timeout" doc:"Maximum time for one write to a sink. With several sinks, changes move to the sink's retry queue after 5 s and get the full time there."`
	DrainTimeout          time.Duration `koanf:"drain_timeout" doc:"Maximum time that a shutdown waits for messages in flight; the rest are redelivered."`
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
