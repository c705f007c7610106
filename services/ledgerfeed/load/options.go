package load

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Options say what to send where. URL and Token are required.
type Options struct {
	URL   string        // of the endpoint: http(s)://HOST:PORT/webhooks/APP
	Token secret.String // verifier token that signs the bodies
	// Rate is the requests a second that are due (open loop); 0 is closed loop:
	// each connection sends as soon as it has its answer.
	Rate        float64
	Connections int           // open at the same time, at most
	Duration    time.Duration // measured time
	Warmup      time.Duration // before it, not measured
	Events      int           // of a request
	Realms      int           // over which a request's events are spread
	Format      webhook.Format
	Timeout     time.Duration // of one request
	// Poisson spaces the requests at random, as independent senders would, with
	// Rate as the mean; otherwise all gaps are the same.
	Poisson bool
	// Seed and RunID determine the bodies and the gaps. A RunID of 0 becomes the
	// time in nanoseconds, so that no broker takes one run for a repeat of another.
	Seed  uint64
	RunID int64
	// AllowRemote lets it send to an address that is not loopback.
	AllowRemote bool
	// InsecureTLS takes any certificate.
	InsecureTLS bool
	// Progress is called about every second; may be nil.
	Progress func(Report)
}

// DefaultOptions is ten seconds of 100 requests a second to `ledgerfeed dev`.
func DefaultOptions() Options {
	return Options{
		URL: "http://127.0.0.1:8080/webhooks/dev", Token: "ledgerfeed-dev-verifier",
		Rate: 100, Connections: 64, Duration: 10 * time.Second, Events: 10, Realms: 2,
		Format: webhook.CloudEvents, Timeout: 10 * time.Second,
	}
}

const (
	mostRate        = 1e6
	mostConnections = 20_000
	mostDuration    = time.Hour
	mostTimeout     = time.Minute
	mostEvents      = 1000
)

// Validate names every option that cannot be used, its value and what would do.
func (o Options) Validate() error {
	var errs []error
	bad := func(ok bool, name string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s is %v: %s", name, value, want))
		}
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		bad(false, "url", "not one", "give http://HOST:PORT/webhooks/APP") // the text may hold a password
	case u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https":
		bad(false, "url", u.Redacted(), "give http://HOST:PORT/webhooks/APP")
	default:
		bad(o.AllowRemote || isLoopback(u.Hostname()), "url", o.URL, "it is not on this machine; a load test of a server of your own elsewhere needs allow-remote")
	}
	bad(o.Token != "", "token", "empty", "give the verifier token of the app")
	bad(o.Rate >= 0 && o.Rate <= mostRate, "rate", o.Rate, "give 0 (as fast as answered) to 1000000 requests a second")
	bad(o.Rate > 0 || !o.Poisson, "poisson", o.Poisson, "it needs a rate above 0")
	bad(o.Connections >= 1 && o.Connections <= mostConnections, "connections", o.Connections, fmt.Sprintf("give 1 to %d", mostConnections))
	bad(o.Duration > 0 && o.Duration <= mostDuration, "for", o.Duration, "give more than 0s and at most 1h")
	bad(o.Warmup >= 0 && o.Warmup <= mostDuration, "warmup", o.Warmup, "give 0s to 1h")
	bad(o.Events >= 1 && o.Events <= mostEvents, "events", o.Events, fmt.Sprintf("give 1 to %d", mostEvents))
	bad(o.Realms >= 1 && o.Realms <= o.Events, "realms", o.Realms, "give 1 or more, and no more than events")
	bad(o.Format == webhook.CloudEvents || o.Format == webhook.Legacy, "format", o.Format, "give cloudevents or legacy")
	bad(o.Timeout > 0 && o.Timeout <= mostTimeout, "timeout", o.Timeout, "give more than 0s and at most 1m")
	return errors.Join(errs...)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
