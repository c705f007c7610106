package stream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Profile says how the broker keeps what it acknowledged. This package sets the
// number of replicas by it; how often a server syncs is in the server's own
// configuration (sync_interval) and must match.
type Profile string

// The profiles, from docs/architecture.md.
const (
	// Dev is the embedded server: one replica, synced on every message.
	Dev Profile = "dev"
	// Single is one server with sync_interval: always.
	Single Profile = "single"
	// SingleRelaxed is one server with the default sync_interval: up to two
	// minutes of acknowledged messages are lost with the machine's power.
	SingleRelaxed Profile = "single-relaxed"
	// Cluster is three replicas with sync_interval: always.
	Cluster Profile = "cluster"
)

// Replicas is how many servers keep each message.
func (p Profile) Replicas() int {
	if p == Cluster {
		return 3
	}
	return 1
}

// SyncsEach says that the server is expected to sync every message by itself
// before it acknowledges it: publishes then share a sync by atomic batches.
func (p Profile) SyncsEach() bool { return p == Dev || p == Single }

// Setup says who makes the streams and the consumers.
type Setup string

// The ways.
const (
	// SetupCreate has each service make what is missing.
	SetupCreate Setup = "create"
	// SetupVerify has `ledgerfeed setup` make them. A service compares, and may not create.
	SetupVerify Setup = "verify"
)

// Config is what an operator sets about the broker.
type Config struct {
	URL             string        `koanf:"url" doc:"NATS server URLs, comma-separated; tls:// for TLS. Do not include a password: use nats.credentials_file, nats.nkey_file, nats.password or nats.token."`
	CredentialsFile string        `koanf:"credentials_file" doc:"NATS credentials file (JWT and seed); empty for none. Read for each connection."`
	NkeyFile        string        `koanf:"nkey_file" doc:"File with an nkey seed (SU...), for NATS servers that identify users by nkey; empty for none. Read at startup."`
	User            string        `koanf:"user" live:"true" file:"true" doc:"NATS user, with nats.password; empty for none. Reloaded when its file changes and on SIGHUP."`
	Password        secret.String `koanf:"password" live:"true" doc:"Password of nats.user. Reloaded when its file changes and on SIGHUP."`
	Token           secret.String `koanf:"token" live:"true" doc:"NATS authentication token, instead of a user; empty for none. Reloaded when its file changes and on SIGHUP."`
	CAFile          string        `koanf:"ca_file" doc:"PEM file with certificate authorities to trust in addition to the system's; empty for none."`
	Profile         Profile       `koanf:"profile" doc:"Durability profile of the broker: dev, single, single-relaxed (one replica) or cluster (three). The server's sync_interval must match."`
	Setup           Setup         `koanf:"setup" doc:"Who creates the streams and consumers. create: each service creates what is missing; verify: ledgerfeed setup creates them, and a service is not ready without them. With verify the NATS users of the services need no right to create anything."`
	MonitorURL      string        `koanf:"monitor_url" doc:"Monitoring endpoints of the NATS servers, comma-separated (http://HOST:8222), to check the profile at startup. Empty: port 8222 of the servers in nats.url."`
	AllowMismatch   bool          `koanf:"allow_mismatch" doc:"Start even if the broker does not guarantee what the profile promises, or cannot be checked; /readyz and the metric ledgerfeed_stream_durable show it."`
	EventsMaxBytes  int64         `koanf:"events_max_bytes" doc:"Maximum size of the event stream in bytes. When it is full, webhooks are answered 503 and Intuit resends them later; the last quarter is reserved for webhooks (not scans, replays or repairs). Increases apply when a service starts, decreases never."`
	RetryMaxBytes   int64         `koanf:"retry_max_bytes" doc:"Maximum size of the retry stream in bytes: changes that wait for one sink, or for a company that cannot be read. One sink may use three quarters of it. A scan delivers what does not fit."`
	DeadMaxBytes    int64         `koanf:"dead_max_bytes" doc:"Maximum size of the dead-letter stream in bytes. One reason may use half of it, one company an eighth; the last quarter is reserved for unreadable messages. What does not fit is retried by scans or waits on the stream LF_RETRY."`
	DeadMaxAge      time.Duration `koanf:"dead_max_age" doc:"Retention of dead letters."`
	ChangesMaxBytes int64         `koanf:"changes_max_bytes" doc:"Maximum size of the NATS sink's stream in bytes; the oldest changes are removed first."`
	ChangesMaxAge   time.Duration `koanf:"changes_max_age" doc:"Retention of changes in the NATS sink's stream (0 = limited by size only)."`
	ActionsMaxBytes int64         `koanf:"actions_max_bytes" doc:"Maximum size of the audit trail of operator actions (LF_ACTIONS) in bytes. When it is full, new actions are only logged; its last quarter is reserved for actions (not refused requests)."`
	ActionsMaxAge   time.Duration `koanf:"actions_max_age" doc:"Retention of operator actions in the stream LF_ACTIONS."`
	PublishTimeout  time.Duration `koanf:"publish_timeout" doc:"Maximum time that a publish waits for the broker's acknowledgement."`
}

// DefaultConfig is a safe setting for one server on this machine.
func DefaultConfig() Config {
	return Config{
		URL:             "nats://127.0.0.1:4222",
		Profile:         Single,
		Setup:           SetupCreate,
		EventsMaxBytes:  4 << 30,
		RetryMaxBytes:   1 << 30,
		DeadMaxBytes:    1 << 30,
		DeadMaxAge:      90 * 24 * time.Hour,
		ChangesMaxBytes: 4 << 30,
		ActionsMaxBytes: 256 << 20,
		ActionsMaxAge:   400 * 24 * time.Hour,
		PublishTimeout:  5 * time.Second,
	}
}

// Validate reports every setting that cannot work, by name and value.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("nats.%s is %v: %s", field, value, want))
	}
	for _, s := range strings.Split(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		switch {
		case err != nil || u.Host == "":
			errs = append(errs, errors.New("nats.url: want nats://host:port, several separated by commas"))
		case u.User != nil:
			errs = append(errs, errors.New("nats.url: must not carry a user or password: use nats.credentials_file, or nats.user and nats.password, or nats.token"))
		}
	}
	if c.MonitorURL != "" {
		for _, m := range c.monitors() {
			u, err := url.Parse(m)
			if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
				errs = append(errs, errors.New("nats.monitor_url: want http://HOST:8222, several separated by commas, without a password"))
			}
		}
	}
	errs = append(errs, c.validateLogin())
	switch c.Profile {
	case Dev, Single, SingleRelaxed, Cluster:
	default:
		bad("profile", fmt.Sprintf("%q", c.Profile), "want dev, single, single-relaxed or cluster")
	}
	switch c.Setup {
	case "", SetupCreate, SetupVerify: // empty is create
	default:
		bad("setup", fmt.Sprintf("%q", c.Setup), "want create or verify")
	}
	const least = 1 << 20
	if c.EventsMaxBytes < least {
		bad("events_max_bytes", c.EventsMaxBytes, "want at least 1048576 (1 MiB)")
	}
	if c.RetryMaxBytes < least {
		bad("retry_max_bytes", c.RetryMaxBytes, "want at least 1048576 (1 MiB)")
	}
	if c.DeadMaxBytes < least {
		bad("dead_max_bytes", c.DeadMaxBytes, "want at least 1048576 (1 MiB)")
	}
	if c.ChangesMaxBytes < least {
		bad("changes_max_bytes", c.ChangesMaxBytes, "want at least 1048576 (1 MiB)")
	}
	if c.DeadMaxAge < time.Hour {
		bad("dead_max_age", c.DeadMaxAge, "want at least 1h")
	}
	if c.ChangesMaxAge != 0 && c.ChangesMaxAge < time.Hour {
		bad("changes_max_age", c.ChangesMaxAge, "want 0 or at least 1h")
	}
	if c.ActionsMaxBytes < least {
		bad("actions_max_bytes", c.ActionsMaxBytes, "want at least 1048576 (1 MiB)")
	}
	if c.ActionsMaxAge < 24*time.Hour {
		bad("actions_max_age", c.ActionsMaxAge, "want at least 24h")
	}
	if c.PublishTimeout <= 0 {
		bad("publish_timeout", c.PublishTimeout, "want more than 0s")
	}
	return errors.Join(errs...)
}

func (c Config) validateLogin() error {
	ways := 0
	for _, set := range []bool{c.CredentialsFile != "", c.NkeyFile != "", c.User != "", c.Token != ""} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("nats.credentials_file, nats.nkey_file, nats.user and nats.token: give one of them")
	case c.User == "" && c.Password != "":
		return errors.New("nats.password is set without nats.user")
	}
	return nil
}
