package ingress

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Config is all that an operator sets of the service.
type Config struct {
	NATS    stream.Config         `koanf:"nats"`
	Log     telemetry.LogConfig   `koanf:"log"`
	Admin   telemetry.AdminConfig `koanf:"admin"`
	Trace   telemetry.TraceConfig `koanf:"trace"`
	Ingress IngressConfig         `koanf:"ingress"`
}

// DefaultConfig is what is used where nothing is set.
func DefaultConfig() Config {
	return Config{
		NATS:    stream.DefaultConfig(),
		Log:     telemetry.DefaultLogConfig(),
		Admin:   telemetry.DefaultAdminConfig(),
		Trace:   telemetry.DefaultTraceConfig(),
		Ingress: DefaultIngressConfig(),
	}
}

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	return errors.Join(c.NATS.Validate(), c.Log.Validate(), c.Admin.Validate(), c.Trace.Validate(), c.Ingress.Validate())
}

// IngressConfig is what an operator sets of the ingress.
type IngressConfig struct {
	Listen           string        `koanf:"listen" doc:"Address of the webhook endpoint. Intuit wants HTTPS: set a certificate, or put a proxy that ends TLS in front."`
	Apps             secret.String `koanf:"apps" live:"true" doc:"The Intuit apps and their verifier tokens: NAME=TOKEN, several tokens separated by commas while one replaces the other, several apps by semicolons or lines. The endpoint of an app is /webhooks/NAME. Read again when its file changes and on SIGHUP. Required."`
	TLSCertFile      string        `koanf:"tls_cert_file" doc:"PEM file with the server's certificate and, behind it, the intermediate ones; empty for plain HTTP. Read again when it changes and on SIGHUP."`
	TLSKeyFile       string        `koanf:"tls_key_file" doc:"PEM file with the key of the certificate."`
	Budget           time.Duration `koanf:"budget" doc:"From the request's headers to the broker's acknowledgement, at most; then the answer is 503. Intuit counts an answer after 3s as failed."`
	BodyTimeout      time.Duration `koanf:"body_timeout" doc:"How much of the budget the body may take to arrive; then the answer is 408."`
	MaxBody          int64         `koanf:"max_body" doc:"Largest body in bytes; a larger one is answered 413. Intuit sends up to about 1 MB."`
	MaxConnections   int           `koanf:"max_connections" doc:"Open connections. With all taken, a new one takes the place of the one that has been silent for longest (a second at least), or is answered 503. Needs as many open files, and some twenty KiB of memory for each that is used."`
	MaxInFlight      int           `koanf:"max_in_flight" doc:"Signed requests that wait for the broker at the same time; one beyond is answered 503 at once, and Intuit sends it again."`
	MaxInFlightBytes int64         `koanf:"max_in_flight_bytes" doc:"Bytes of bodies in memory at the same time; a request beyond is answered 503."`
	StrangerPercent  int           `koanf:"stranger_percent" doc:"Part of the connections, requests and bytes, in percent, that one address may take while it sends no signed webhook (an IPv6 address counts by its /64); all such addresses together may take twice as much. The rest is left to Intuit. 100 is no limit."`
	AccessLog        int           `koanf:"access_log" doc:"Stored notifications that are logged at info level, at most so many a second; the others at debug. 0 logs none at info."`
	TrustedProxies   []string      `koanf:"trusted_proxies" doc:"Networks (CIDR) of the proxies whose X-Forwarded-For is believed, for the address in the log and for ingress.stranger_percent; they themselves are not limited. None by default."`
	DrainTimeout     time.Duration `koanf:"drain_timeout" doc:"How long a stop waits for the requests in hand."`
}

// DefaultIngressConfig has everything but the apps.
func DefaultIngressConfig() IngressConfig {
	return IngressConfig{
		Listen:           ":8080",
		Budget:           2500 * time.Millisecond,
		BodyTimeout:      2 * time.Second,
		MaxBody:          8 << 20,
		MaxConnections:   10_000,
		MaxInFlight:      1024,
		MaxInFlightBytes: 64 << 20,
		StrangerPercent:  25,
		AccessLog:        10,
		DrainTimeout:     10 * time.Second,
	}
}

// Validate names every setting that cannot be used, its value and what would do.
// It never shows a token.
func (c IngressConfig) Validate() error {
	var errs []error
	bad := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("ingress.%s is %v: %s", key, value, want))
		}
	}
	apps, err := parseApps(c.Apps)
	errs = append(errs, err)
	errs = append(errs, shortTokens(apps))
	_, _, err = net.SplitHostPort(c.Listen)
	bad(err == nil, "listen", fmt.Sprintf("%q", c.Listen), "give HOST:PORT or :PORT")
	bad((c.TLSCertFile == "") == (c.TLSKeyFile == ""), "tls_cert_file", fmt.Sprintf("%q", c.TLSCertFile), "give both ingress.tls_cert_file and ingress.tls_key_file, or none")
	bad(c.Budget >= 10*time.Millisecond && c.Budget <= 2900*time.Millisecond, "budget", c.Budget, "give 10ms to 2.9s: Intuit gives up after 3s")
	bad(c.BodyTimeout > 0 && c.BodyTimeout <= c.Budget, "body_timeout", c.BodyTimeout, "give more than 0s and no more than the budget")
	bad(c.MaxBody >= 1<<20, "max_body", c.MaxBody, "give at least 1048576 (1 MiB): Intuit sends bodies of that size")
	bad(c.MaxConnections >= 1, "max_connections", c.MaxConnections, "give at least 1")
	bad(c.MaxInFlight >= 1, "max_in_flight", c.MaxInFlight, "give at least 1")
	bad(c.MaxInFlightBytes > c.MaxBody, "max_in_flight_bytes", c.MaxInFlightBytes, "give more than max_body")
	bad(c.StrangerPercent >= 1 && c.StrangerPercent <= 100, "stranger_percent", c.StrangerPercent, "give 1 to 100")
	bad(c.AccessLog >= 0, "access_log", c.AccessLog, "give 0 or more lines a second")
	bad(c.DrainTimeout >= 0, "drain_timeout", c.DrainTimeout, "give a positive duration or 0")
	for _, cidr := range c.TrustedProxies {
		_, _, err := net.ParseCIDR(cidr)
		bad(err == nil, "trusted_proxies", cidr, "give networks such as 10.0.0.0/8")
	}
	return errors.Join(errs...)
}
