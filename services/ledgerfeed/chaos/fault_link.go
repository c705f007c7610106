package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
)

// destinations are what replicas have links to, in a fixed order, and the links
// between the brokers.
var destinations = []string{"ingress", "broker", "redis", "postgres", "endpoint", "api", routes}

const routes = "the other brokers"

// linkFaults are what happens on the way between two processes.
func linkFaults() []fault {
	on := func(name string, weight int, e effects, most time.Duration, do func(*faultproxy.Proxy, *rand.Rand)) fault {
		return fault{name: name, group: "link", least: time.Second, most: most, weight: weight, effects: e, begin: breakLinks(do)}
	}
	repeats := effects{repeats: true}
	return []fault{
		on("link-cut", 3, repeats, 5*time.Second, func(l *faultproxy.Proxy, _ *rand.Rand) { l.Cut() }),
		on("link-deaf", 2, repeats, 8*time.Second, func(l *faultproxy.Proxy, _ *rand.Rand) { l.Stall() }),
		on("link-half-open", 2, repeats, 6*time.Second, func(l *faultproxy.Proxy, _ *rand.Rand) { l.HalfOpen() }),
		on("link-slow", 2, repeats, 6*time.Second, func(l *faultproxy.Proxy, rng *rand.Rand) {
			l.Slow(20*time.Millisecond + span(rng, 400*time.Millisecond))
		}),
		on("link-truncate", 2, effects{repeats: true, corrupts: true}, 3*time.Second, func(l *faultproxy.Proxy, _ *rand.Rand) { l.Truncate() }),
	}
}

// breakLinks does it to all links of one replica to one destination, or of all
// replicas to it; or of one broker to the others.
func breakLinks(do func(*faultproxy.Proxy, *rand.Rand)) beginning {
	return func(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
		to := choose(rng, destinations)
		links, whose := r.plant.links[to], "all"
		if rng.IntN(3) > 0 {
			one := choose(rng, r.plant.replicas())
			if own := one.links[to]; len(own) > 0 {
				links, whose = own, one.name
			}
		}
		if to == routes {
			i := rng.IntN(brokers)
			links, whose = r.plant.cluster.routes[i], r.plant.cluster.members[i].name
		}
		for _, l := range links {
			do(l, rng)
		}
		return func(context.Context) error {
			for _, l := range links {
				l.Heal()
			}
			return nil
		}, fmt.Sprintf("%s → %s", whose, to), nil
	}
}
