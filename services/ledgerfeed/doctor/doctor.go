// Package doctor looks for what keeps webhooks and changes from arriving: Intuit's
// list of reasons for missing webhooks and the settings of the servers below,
// each as a check; and for what lets others in.
//
// It guarantees that every check says ok, warn or fail in one line, and what to do
// unless it is ok; that a server that does not answer is a finding and hides none of
// the others; and that looking changes nothing: a probe is a signed body without
// events, no token is refreshed, no sink is written to.
//
// It cannot see Intuit's portal. What is not selected there it concludes from
// changes of which no webhook ever came.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

// Config are the services' own settings, as far as there is something to check.
type Config struct {
	NATS       stream.Config             `koanf:"nats"`
	Redis      state.Config              `koanf:"redis"`
	QBO        qbo.Config                `koanf:"qbo"`
	Connection connection.Config         `koanf:"connection"`
	Ingress    ingress.IngressConfig     `koanf:"ingress"`
	Processor  processor.ProcessorConfig `koanf:"processor"`
	Console    console.ConsoleConfig     `koanf:"console"`
	Admin      telemetry.AdminConfig     `koanf:"admin"`
}

// DefaultConfig is the services' default.
func DefaultConfig() Config {
	return Config{
		NATS: stream.DefaultConfig(), Redis: state.DefaultConfig(), QBO: qbo.DefaultConfig(),
		Ingress: ingress.DefaultIngressConfig(), Processor: processor.DefaultProcessorConfig(),
		Console: console.DefaultConsoleConfig(), Admin: telemetry.DefaultAdminConfig(),
	}
}

// Options say what to look at. Only Config is required.
type Options struct {
	Config Config
	// Environ is where Config is from: it says which settings are files. nil: none are.
	Environ []string
	// PublicURL is where Intuit posts, as the portal has it; nil leaves those checks out.
	PublicURL *url.URL
	// Token signs the probes; empty is that of the app that PublicURL names.
	Token secret.String
	// Tries is how many probes are sent; 0 is 20.
	Tries int
	// Patience is how long Intuit waits for an answer; 0 is its 3 seconds.
	Patience time.Duration
	// Roots are the authorities that Intuit is taken to trust; nil is the system's.
	Roots *x509.CertPool
	// Resolve and Dial replace the system's; for a look from another place.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Now     func() time.Time
	// Logger hears of what the libraries below report; nil is none.
	Logger *zap.Logger
	// Progress hears each finding as it is made; nil is none.
	Progress func(Finding)
}

const (
	defaultTries    = 20
	defaultPatience = 3 * time.Second // Intuit's, see its page on webhooks
	checkTimeout    = 15 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Tries <= 0 {
		o.Tries = defaultTries
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// exam is one look at a system.
type exam struct {
	Options
	report Report
	store  *state.Store      // nil: Redis does not answer
	broker *stream.Conn      // nil: the broker does not answer
	wrong  map[string]bool   // apps that Intuit refuses
	realms []realm           // those whose connection could be read
	lost   []string          // realms whose record of the connection is lost
	names  map[string]string // of their companies, as far as they are known
}

// Look makes every check and returns what it found. It ends early only with ctx.
func Look(ctx context.Context, o Options) Report {
	x := &exam{Options: o.withDefaults()}
	defer x.close()
	for _, check := range []func(context.Context){
		x.endpoint, x.redis, x.stream, x.intuit, x.app, x.connections, x.webhooks, x.calls, x.sinks, x.security,
	} {
		if ctx.Err() != nil {
			break
		}
		within, cancel := context.WithTimeout(ctx, time.Duration(x.Tries)*x.Patience+4*checkTimeout)
		check(within)
		cancel()
	}
	return x.report
}

func (x *exam) close() {
	if x.broker != nil {
		x.broker.Close()
	}
	if x.store != nil {
		_ = x.store.Close()
	}
}

// errNoRefresh: looking at a token must not replace it.
var errNoRefresh = errors.New("doctor does not refresh tokens")

type noRefresh struct{}

func (noRefresh) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, errNoRefresh
}
