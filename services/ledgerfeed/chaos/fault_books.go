package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// bookFaults are what Intuit does: webhooks that do not come as they should, an
// API that fails, tokens that end, a record that cannot be read, and a company
// that changes everything at once.
func bookFaults() []fault {
	set := func(name, group string, weight int, e effects, most time.Duration, on, off func(*qbosim.Faults)) fault {
		return fault{name: name, group: group, least: 2 * time.Second, most: most, weight: weight, effects: e, begin: alter(on, off)}
	}
	return []fault{
		set("webhook-loss", "webhook", 3, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.Drop = 0.5 }, func(f *qbosim.Faults) { f.Drop = 0 }),
		set("webhook-double", "webhook", 2, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.Duplicate = 0.5 }, func(f *qbosim.Faults) { f.Duplicate = 0 }),
		set("webhook-disorder", "webhook", 2, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.Reorder = 0.5 }, func(f *qbosim.Faults) { f.Reorder = 0 }),
		set("webhook-late", "webhook", 2, effects{}, 6*time.Second, func(f *qbosim.Faults) { f.Delay = 5 * time.Second }, func(f *qbosim.Faults) { f.Delay = 0 }),
		set("webhook-outage", "webhook", 2, effects{}, 6*time.Second, func(f *qbosim.Faults) { f.Drop = 1 }, func(f *qbosim.Faults) { f.Drop = 0 }),
		set("api-429", "api", 2, effects{}, 6*time.Second, func(f *qbosim.Faults) { f.Error429, f.RetryAfter = 0.2, time.Second }, func(f *qbosim.Faults) { f.Error429 = 0 }),
		set("api-5xx", "api", 2, effects{}, 6*time.Second, func(f *qbosim.Faults) { f.Error5xx = 0.4 }, func(f *qbosim.Faults) { f.Error5xx = 0 }),
		set("api-timeout", "api", 2, effects{}, 8*time.Second, func(f *qbosim.Faults) { f.Latency = 8 * time.Second }, func(f *qbosim.Faults) { f.Latency = baseLatency }),
		set("api-lag", "api", 2, effects{hides: true}, 6*time.Second, func(f *qbosim.Faults) { f.ReadLag = 2 * time.Second }, func(f *qbosim.Faults) { f.ReadLag = 0 }),
		{name: "token-expire", group: "token", least: 0, most: time.Second, weight: 2, begin: expireTokens},
		{name: "token-revoke", group: "token", least: 2 * time.Second, most: 5 * time.Second, weight: 1, effects: effects{lapses: true}, begin: revoke},
		{name: "poison", group: "poison", least: 2 * time.Second, most: 6 * time.Second, weight: 1, begin: poison},
		{name: "flood", group: "flood", least: 0, most: time.Second, weight: 1, begin: flood},
		{name: "flood-unheard", group: "webhook", least: 0, most: time.Second, weight: 1, begin: floodUnheard},
	}
}

// baseLatency is that of a good day.
const baseLatency = 30 * time.Millisecond

func alter(on, off func(*qbosim.Faults)) beginning {
	return func(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
		r.plant.books.alter(on)
		return func(context.Context) error { r.plant.books.alter(off); return nil }, "", nil
	}
}

// expireTokens ends the access tokens of all companies: all replicas want new ones
// at the same time.
func expireTokens(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	about := "all"
	for _, realm := range r.plant.realms {
		if !r.expire(ctx, realm) {
			about = "some: Redis is away"
		}
	}
	return nothing, about, nil
}

// expire ends the access tokens of a company early. A 401 brings a new token once in ten
// minutes, which is longer than most runs: an earlier one is forgotten, or the token stays.
func (r *run) expire(ctx context.Context, realm string) (ended bool) {
	if r.plant.connections.Release(ctx, realm) != nil {
		return false
	}
	r.plant.books.ExpireAccess(realm)
	return true
}

// revoke is a company's owner who disconnects the app, and connects it again.
func revoke(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms[:len(r.plant.realms)-1])
	r.plant.books.RevokeRealm(realm)
	return func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) error { return r.plant.consent(ctx, realm) })
	}, realm, nil
}

// poison makes some records fail every call they are in. When it ends somebody
// corrects them, which is a change.
func poison(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	var refs []qbosim.Ref
	for range 3 {
		if ref, ok := r.load.recent(rng); ok {
			refs = append(refs, ref)
		}
	}
	r.plant.books.alter(func(f *qbosim.Faults) { f.Poison = refs })
	for _, ref := range refs {
		_ = r.load.update(ref) // a deleted one has no more changes
	}
	return func(context.Context) error {
		r.plant.books.alter(func(f *qbosim.Faults) { f.Poison = nil })
		for _, ref := range refs {
			_ = r.load.update(ref)
		}
		return nil
	}, fmt.Sprint(refs), nil
}

const floodChanges = 600

// flood changes many records of one company at once.
func flood(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms[:len(r.plant.realms)-1])
	for range floodChanges {
		if err := r.load.step(realm); err != nil {
			return nil, realm, err
		}
	}
	return nothing, realm, nil
}

// floodUnheard makes more new records than an answer of CDC holds, and no webhook
// tells of them.
func floodUnheard(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms[:len(r.plant.realms)-1])
	r.plant.books.alter(func(f *qbosim.Faults) { f.Drop = 1 })
	defer r.plant.books.alter(func(f *qbosim.Faults) { f.Drop = 0 })
	names := []string{"Customer", "Vendor", "Item"}
	for i := range unheardChanges {
		if err := r.load.create(realm, names[i%len(names)]); err != nil {
			return nil, realm, err
		}
	}
	return nothing, realm, nil
}

const unheardChanges = 1300
