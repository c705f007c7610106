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
	Listen           string        `koanf:"listen" doc:"Listen address of the webhook endpoint. Intuit requires HTTPS: set a certificate, or put a proxy that terminates TLS in front."`
	Apps             secret.String `koanf:"apps" live:"true" doc:"Intuit apps and their verifier tokens: NAME=TOKEN. During a rotation give several tokens separated by commas; separate apps by semicolons or lines. The endpoint of an app is /webhooks/NAME. Reloaded when its file changes and on SIGHUP. Required."`
	TLSCertFile      string        `koanf:"tls_cert_file" doc:"PEM file with the server certificate followed by its intermediates; empty for plain HTTP. Reloaded when it changes and on SIGHUP."`
	TLSKeyFile       string        `koanf:"tls_key_file" doc:"PEM file with the key of the certificate."`
	Budget           time.Duration `koanf:"budget" doc:"Maximum time from the request headers to the broker's acknowledgement; then the answer is 503. Intuit counts an answer after 3s as failed."`
	BodyTimeout      time.Duration `koanf:"body_timeout" doc:"Part of the budget within which the body must arrive; then the answer is 408."`
	MaxBody          int64         `koanf:"max_body" doc:"Maximum body size in bytes; larger bodies are answered 413. Intuit sends up to about 1 MB."`
	MaxConnections   int           `koanf:"max_connections" doc:"Maximum number of open connections. When all are taken, a new one replaces the longest idle one (idle for at least a second) or is answered 503. Needs as many open files, and about 20 KiB of memory per used connection."`
	MaxInFlight      int           `koanf:"max_in_flight" doc:"Maximum number of signed requests that wait for the broker; more are answered 503 at once, and Intuit resends them."`
	MaxInFlightBytes int64         `koanf:"max_in_flight_bytes" doc:"Maximum bytes of request bodies in memory; requests beyond are answered 503."`
	StrangerPercent  int           `koanf:"stranger_percent" doc:"Share of connections, requests and bytes, in percent, for one address that sends no signed webhook (IPv6: per /64); all such addresses together get twice as much. The rest is reserved for Intuit. 100 = no limit."`
	AccessLog        int           `koanf:"access_log" doc:"Maximum number of stored notifications per second to log at info level; the others are logged at debug (0 = none at info)."`
	TrustedProxies   []string      `koanf:"trusted_proxies" doc:"Networks (CIDR) of proxies whose X-Forwarded-For is trusted, for the logged address and ingress.stranger_percent; the proxies themselves are not limited. Default: none."`
	DrainTimeout     time.Duration `koanf:"drain_timeout" doc:"Maximum time that a shutdown waits for requests in flight."`
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
