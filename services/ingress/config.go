package ingress

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// IngressConfig is what an operator sets of the ingress.
type IngressConfig struct {
	Listen         string        `koanf:"listen" doc:"Address of the webhook endpoint. It speaks plain HTTP: put a TLS proxy in front of it."`
	Apps           secret.String `koanf:"apps" doc:"The Intuit apps and their verifier tokens: NAME=TOKEN, several tokens separated by commas while one replaces the other, several apps by semicolons or lines. The endpoint of an app is /webhooks/NAME."`
	Budget         time.Duration `koanf:"budget" doc:"From the request's headers to the answer, at most. Intuit counts an answer after 3s as failed."`
	MaxBody        int64         `koanf:"max_body" doc:"Largest body in bytes; a larger one is answered 413. Intuit sends up to about 1 MB."`
	MaxInFlight    int           `koanf:"max_in_flight" doc:"Requests worked on at the same time; one beyond is answered 503 at once, and Intuit sends it again."`
	TrustedProxies []string      `koanf:"trusted_proxies" doc:"Networks (CIDR) of the proxies whose X-Forwarded-For is believed; none by default."`
	DrainTimeout   time.Duration `koanf:"drain_timeout" doc:"How long a stop waits for the requests in hand."`
}

// DefaultIngressConfig has everything but the apps.
func DefaultIngressConfig() IngressConfig {
	return IngressConfig{
		Listen:       ":8080",
		Budget:       2500 * time.Millisecond,
		MaxBody:      8 << 20,
		MaxInFlight:  1024,
		DrainTimeout: 10 * time.Second,
	}
}

// maxBudget leaves half of the last second of Intuit's three for the network.
const maxBudget = 2900 * time.Millisecond

// Validate names every setting that cannot be used, its value and what would do.
func (c IngressConfig) Validate() error {
	var errs []error
	bad := func(ok bool, key string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("ingress.%s %v: %s", key, value, want))
		}
	}
	_, err := parseApps(c.Apps)
	errs = append(errs, err)
	_, _, splitErr := net.SplitHostPort(c.Listen)
	bad(splitErr == nil, "listen", c.Listen, "give HOST:PORT or :PORT")
	bad(c.Budget > 0 && c.Budget <= maxBudget, "budget", c.Budget, "give a duration up to 2.9s")
	bad(c.MaxBody >= 1<<20, "max_body", c.MaxBody, "give at least 1048576 (1 MiB): Intuit sends bodies of that size")
	bad(c.MaxInFlight >= 1, "max_in_flight", c.MaxInFlight, "give at least 1")
	bad(c.DrainTimeout >= 0, "drain_timeout", c.DrainTimeout, "give a positive duration or 0")
	for _, cidr := range c.TrustedProxies {
		_, _, err := net.ParseCIDR(cidr)
		bad(err == nil, "trusted_proxies", cidr, "give a network such as 10.0.0.0/8")
	}
	return errors.Join(errs...)
}
