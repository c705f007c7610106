package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

type deadCmd struct {
	Ls      deadLsCmd      `cmd:"" help:"List dead letters, newest first."`
	Show    deadShowCmd    `cmd:"" help:"Show a dead letter with its payload."`
	Requeue deadRequeueCmd `cmd:"" help:"Requeue dead letters for delivery."`
	Purge   deadPurgeCmd   `cmd:"" help:"Delete dead letters permanently."`
}

// BrokerConfig is what the commands that work on the broker read from the
// environment: the same variables as the services.
type BrokerConfig struct {
	NATS stream.Config `koanf:"nats"`
}

// DefaultBrokerConfig is the services' default.
func DefaultBrokerConfig() BrokerConfig { return BrokerConfig{NATS: stream.DefaultConfig()} }

// Validate names every setting that cannot be used.
func (c BrokerConfig) Validate() error { return c.NATS.Validate() }

// brokerFlags say where the broker is.
type brokerFlags struct {
	NATSURL string `placeholder:"URL" name:"nats-url" help:"NATS server URL, as printed by ledgerfeed dev (LEDGERFEED_NATS_URL)."`
}

// connect opens the broker that the services use. Close it.
func (f brokerFlags) connect(ctx context.Context, p process) (*stream.Conn, error) {
	cfg := DefaultBrokerConfig()
	if err := config.Load(&cfg, "", f.environ(os.Environ())); err != nil {
		return nil, err
	}
	return dial(ctx, p, cfg.NATS)
}

// environ is the environment with the flags in the place of its variables.
func (f brokerFlags) environ(env []string) []string {
	if f.NATSURL == "" {
		return env
	}
	const name = "LEDGERFEED_NATS_URL="
	var kept []string
	for _, e := range env {
		if len(e) < len(name) || e[:len(name)] != name {
			kept = append(kept, e)
		}
	}
	return append(kept, name+f.NATSURL)
}

func dial(ctx context.Context, p process, cfg stream.Config) (*stream.Conn, error) {
	log, err := p.logger()
	if err != nil {
		return nil, err
	}
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "ledgerfeed", Logger: log.Named("nats")})
	if errors.Is(err, stream.ErrUnreachable) {
		return nil, lifecycle.Unreachable("", err)
	}
	return conn, err
}

// letterFilter says which dead letters are meant.
type letterFilter struct {
	Reason []string `placeholder:"REASON" help:"Filter by reason, such as sink-refused (comma-separated)."`
	Realm  string   `placeholder:"ID" help:"Filter by company id."`
	Entity string   `placeholder:"NAME" help:"Filter by entity type, such as Invoice."`
	ID     string   `name:"id" placeholder:"ID" help:"Filter by record id."`
	Sink   string   `placeholder:"NAME" help:"Filter by sink."`
	Since  moment   `placeholder:"TIME" help:"Filter by time, from TIME on: 2026-11-20, 2026-11-20T15:04:05Z, or 36h or 7d ago."`
	Until  moment   `placeholder:"TIME" help:"Filter by time, before TIME."`
}

func (f letterFilter) filter() (stream.DeadFilter, error) {
	d := stream.DeadFilter{
		RealmID: f.Realm, Entity: entity.Canonical(f.Entity), EntityID: f.ID, Sink: f.Sink,
		Since: f.Since.time(), Until: f.Until.time(),
	}
	for _, r := range f.Reason {
		d.Reasons = append(d.Reasons, stream.Reason(r))
	}
	return d, f.Since.before(f.Until)
}

// moment is a point in time as a person writes it. The zero moment is none.
type moment time.Time

func (m moment) time() time.Time { return time.Time(m) }

// before refuses a range that holds nothing.
func (m moment) before(end moment) error {
	if since, until := m.time(), end.time(); !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return lifecycle.Usage(fmt.Errorf("--since %s is not before --until %s", since.Format(time.RFC3339), until.Format(time.RFC3339)))
	}
	return nil
}

// UnmarshalText reads a date, a time, or how long ago.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			*m = moment(t.UTC())
			return nil
		}
	}
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); err == nil && n == 1 && s == fmt.Sprintf("%dd", days) && days >= 0 {
		*m = moment(time.Now().UTC().AddDate(0, 0, -days))
		return nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		*m = moment(time.Now().UTC().Add(-d))
		return nil
	}
	return fmt.Errorf("%q is no time: give 2026-11-20, 2026-11-20T15:04:05Z, or how long ago (36h, 7d)", s)
}
