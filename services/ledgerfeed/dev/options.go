package dev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

const (
	maxRealms = 1000
	maxRate   = 10000
	maxLag    = 10 * time.Minute

	// futureDeletes is the share of wrong deletions that bear a time to come, and
	// silentDerived that of derived changes without a new LastUpdatedTime.
	futureDeletes = 0.25
	silentDerived = 0.1
)

// Options says what to run, how the simulated QuickBooks behaves and where
// the output goes. Start from [DefaultOptions].
type Options struct {
	// Realms is how many companies the simulator has.
	Realms int
	// Rate is the number of changes a second, over all realms. 0 makes none.
	Rate float64
	// Seed makes the changes and the webhook faults repeatable.
	Seed uint64

	// Drop, Duplicate and Reorder are the shares (0 to 1) of webhooks that
	// are lost, sent twice, or sent late.
	Drop, Duplicate, Reorder float64
	// Lag is the longest that a read replica of the API lags, by Intuit's clock.
	Lag time.Duration
	// WrongDeletes is the share of webhooks that come with the deletion of a record
	// that was never deleted; some of those are dated in the future.
	WrongDeletes float64
	// Derived is the share of changes of transactions that also move a balance or a
	// quantity of another record, whose SyncToken stays. A few move its
	// LastUpdatedTime neither.
	Derived float64
	// Outages are spans in which every webhook is lost for good.
	Outages []Outage
	// Unselected are event types that make no webhooks, some only after a while.
	Unselected []qbosim.Unselected
	Format     qbosim.Format

	// Sinks are where the changes go; none means changes.jsonl in DataDir.
	Sinks []Target
	// WebhookSecret signs what webhook sinks post.
	WebhookSecret secret.String
	// RedisURL and NATSURL name servers to use instead of the embedded ones.
	RedisURL secret.String
	NATSURL  string
	DataDir  string
	// Listen is the address of the ingress; port 0 takes any free one.
	Listen string
	// ConsoleListen is the address of the console, on this machine; "off" is none.
	ConsoleListen string
	// MetricsListen is the address of /metrics, of all services together; "off" is none.
	MetricsListen string
	// SimListen is the address of the simulator's API.
	SimListen     string
	VerifierToken secret.String

	ReconcileEvery time.Duration
	// For ends the load after that long, lets the feed settle, compares the
	// sinks with the truth and returns. 0 runs until the context ends.
	For time.Duration
	// JSON keeps everything but the summary off Stdout.
	JSON bool

	Log telemetry.LogConfig
	// Started is when the process started; the first delivery is timed from it.
	Started        time.Time
	Stdout, Stderr io.Writer
}

// DefaultOptions is what `ledgerfeed dev` without flags runs.
func DefaultOptions() Options {
	return Options{
		Realms:         3,
		Rate:           5,
		Seed:           1,
		Format:         qbosim.CloudEvents,
		DataDir:        ".ledgerfeed",
		Listen:         "127.0.0.1:8080",
		SimListen:      "127.0.0.1:0",
		ConsoleListen:  consoleOff,
		MetricsListen:  telemetry.Off,
		VerifierToken:  "ledgerfeed-dev-verifier",
		WebhookSecret:  "whsec_bGVkZ2VyZmVlZC1kZXYtd2ViaG9vay1zZWNyZXQ=", // of "ledgerfeed-dev-webhook-secret"
		ReconcileEvery: 30 * time.Second,
		Log:            telemetry.LogConfig{Level: "warn", Format: "console"},
		Started:        time.Now(),
		Stdout:         io.Discard,
		Stderr:         io.Discard,
	}
}

// on is o with the loopback address of the machine in place of IPv4's, where that is
// another one.
func (o Options) on(loopback string) Options {
	for _, address := range []*string{&o.Listen, &o.SimListen, &o.ConsoleListen, &o.MetricsListen} {
		if host, port, err := net.SplitHostPort(*address); err == nil && host == "127.0.0.1" {
			*address = net.JoinHostPort(loopback, port)
		}
	}
	return o
}

// misleading says that an answer or an event may say what is not so, or a version
// not say it all: one scan then need not find every difference.
func (o Options) misleading() bool { return o.Lag > 0 || o.WrongDeletes > 0 || o.Derived > 0 }

// faults are those of the simulated QuickBooks.
func (o Options) faults() qbosim.Faults {
	f := qbosim.Faults{
		Drop: o.Drop, Duplicate: o.Duplicate, Reorder: o.Reorder, ReplicaLag: o.Lag,
		WrongDeletes: o.WrongDeletes, FutureDeletes: futureDeletes, Derived: o.Derived, SilentDerived: silentDerived,
	}
	for _, out := range o.Outages {
		f.Outages = append(f.Outages, qbosim.Outage{From: out.From, For: out.For})
	}
	return f
}

// Validate names every flag that cannot be used, its value and the range it
// must be in.
func (o Options) Validate() error {
	var errs []error
	bad := func(ok bool, flag string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s %v: %s", flag, value, want))
		}
	}
	bad(o.Realms >= 1 && o.Realms <= maxRealms, "realms", o.Realms, fmt.Sprintf("give a number from 1 to %d", maxRealms))
	bad(o.Rate >= 0 && o.Rate <= maxRate, "rate", o.Rate, fmt.Sprintf("give changes a second from 0 to %d", maxRate))
	for _, share := range []struct {
		flag  string
		value float64
	}{{"drop", o.Drop}, {"duplicate", o.Duplicate}, {"reorder", o.Reorder}, {"wrong-deletes", o.WrongDeletes}, {"derived", o.Derived}} {
		bad(share.value >= 0 && share.value <= 1, share.flag, share.value, "give a share from 0 to 1, such as 0.05")
	}
	bad(o.Lag >= 0 && o.Lag <= maxLag, "lag", o.Lag, fmt.Sprintf("give a duration from 0 to %s, such as 30s", maxLag))
	bad(o.Format == qbosim.CloudEvents || o.Format == qbosim.Legacy || o.Format == qbosim.Mixed,
		"format", o.Format, "use cloudevents, legacy or mixed")
	bad(o.DataDir != "", "data-dir", `""`, "name a directory")
	bad(o.VerifierToken.Reveal() != "", "verifier-token", `""`, "the ingress needs a token to check signatures with")
	bad(!strings.ContainsAny(o.VerifierToken.Reveal(), ",;\r\n"), "verifier-token", o.VerifierToken, "it must not contain commas, semicolons or line ends")
	bad(o.ReconcileEvery >= time.Second, "reconcile-every", o.ReconcileEvery, "give at least 1s")
	bad(o.For >= 0, "for", o.For, "give a positive duration such as 20s")
	for flag, addr := range map[string]string{"listen": o.Listen, "sim-listen": o.SimListen} {
		_, _, err := net.SplitHostPort(addr)
		bad(err == nil, flag, addr, "use HOST:PORT, such as 127.0.0.1:8080 (port 0 takes any free one)")
	}
	seen := map[string]bool{}
	for _, t := range o.Sinks {
		bad(!seen[t.key()], "sink", t, "it is given twice; give each sink once")
		seen[t.key()] = true
		bad(o.For == 0 || t.Kind != kindWebhook, "sink", t, "--for compares the sinks with QuickBooks, and what an endpoint holds cannot be read: leave one of them out")
	}
	if o.ConsoleListen != consoleOff {
		cfg := console.DefaultConsoleConfig()
		cfg.Listen = o.ConsoleListen
		bad(cfg.Validate() == nil, "console-listen", o.ConsoleListen, "use HOST:PORT of this machine, such as 127.0.0.1:8090 (port 0 takes any free one), or off")
	}
	if o.MetricsListen != telemetry.Off {
		_, _, err := net.SplitHostPort(o.MetricsListen)
		bad(err == nil, "metrics-listen", o.MetricsListen, "use HOST:PORT, such as 127.0.0.1:9090 (port 0 takes any free one), or off")
	}
	bad(o.NATSURL == "" || strings.Contains(o.NATSURL, "://"), "nats-url", o.NATSURL, "use nats://HOST:PORT")
	return errors.Join(errs...)
}
