package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	store "github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// refusalFaults are responses that say something else than what was asked for, and event
// types that are unticked. Each ends within the run; what a person has to do then is done
// as the docs say.
func refusalFaults() []fault {
	return []fault{
		{name: "api-gateway", group: "api", least: 2 * time.Second, most: 6 * time.Second, weight: 3, begin: gatewayResponses},
		{name: "refuse-entity", group: "refuse", least: 4 * time.Second, most: 12 * time.Second, weight: 3, effects: effects{refuses: true}, begin: refuseEntity},
		{name: "refuse-company", group: "token", least: 2 * time.Second, most: 5 * time.Second, weight: 1, effects: effects{refuses: true, lapses: true}, begin: refuseCompany},
		{name: "fresh-401", group: "token", least: 4 * time.Second, most: 8 * time.Second, weight: 2, begin: refuseFreshTokens},
		{name: "invalid-grant", group: "token", least: 2 * time.Second, most: 6 * time.Second, weight: 1, effects: effects{lapses: true}, begin: refuseRefreshes},
		{name: "unselected", group: "webhook", least: 2 * time.Second, most: 8 * time.Second, weight: 1, begin: unselect},
		{name: "inactive-budgets", group: "budgets", least: 0, most: time.Second, weight: 1, begin: inactiveBudgets},
	}
}

// lastingRefusals are the recorded responses that may be those of one entity that a
// company has not; a page without a Fault is one of them.
var lastingRefusals = []string{
	"feature-5020", "feature-5030", "business-6000", "ended-6190", "bare-400", "gateway-404", "forbidden-3100", "access-120", "fault-200", "system-500",
}

// refusedEntities are drawn from: some that the load changes, and some that it does not.
var refusedEntities = []string{"Bill", "JournalEntry", "Payment", "Vendor", "Budget", "Class", "Department", "Term"}

// refuse adds a refusal to those in force.
func (b *books) refuse(refusal qbosim.Refusal) {
	b.alter(func(f *qbosim.Faults) { f.Refuse = append(slices.Clone(f.Refuse), refusal) })
}

// lift ends it.
func (b *books) lift(refusal qbosim.Refusal) {
	b.alter(func(f *qbosim.Faults) {
		f.Refuse = slices.DeleteFunc(slices.Clone(f.Refuse), func(r qbosim.Refusal) bool { return r == refusal })
	})
}

// gatewayResponses answers some calls, or all, by one of the responses that pass by
// themselves. That of a token that was issued a moment ago is a fault of its own.
func gatewayResponses(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	var passing []string
	for _, response := range qbosim.RecordedResponses() {
		if response.Passing && response.Status != 401 {
			passing = append(passing, response.Name)
		}
	}
	refusal := qbosim.Refusal{Recorded: choose(rng, passing), Share: choose(rng, []float64{0.3, 1})}
	r.plant.books.refuse(refusal)
	return func(context.Context) error {
		r.plant.books.lift(refusal)
		return nil
	}, fmt.Sprintf("%s for %v of the calls", refusal.Recorded, refusal.Share), nil
}

// refuseEntity is an edition of QuickBooks without one entity, for a while. Afterwards a
// person has the entity asked for again: by itself that is done a week later.
func refuseEntity(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	refusal := qbosim.Refusal{Recorded: choose(rng, lastingRefusals), Entity: choose(rng, refusedEntities)}
	realms := r.plant.realms
	if rng.IntN(2) == 0 {
		refusal.Realm = choose(rng, realms)
		realms = []string{refusal.Realm}
	}
	before := r.plant.books.Stats().RefusedEntities
	r.plant.books.refuse(refusal)
	return func(ctx context.Context) error {
		r.plant.books.lift(refusal)
		r.countRefused(before, r.plant.books.Stats().RefusedEntities, realms, refusal.Entity)
		return r.askRefused(ctx, realms)
	}, fmt.Sprintf("%s by %s of realm %q", refusal.Entity, refusal.Recorded, refusal.Realm), nil
}

// mayLack lists those of refusedEntities that a scan suspects first when CDC is refused.
var mayLack = []string{"Budget", "Class", "Department", "Bill"}

// mostRefused is how many calls of CDC may be refused for one entity of a company: one of
// all entities, those that find out which one it is, and as many again of another replica
// that took over meanwhile. The entities that every edition has are left out in turn, each
// by a call of its own; refused calls are not metered.
func mostRefused(name string) int {
	if slices.Contains(mayLack, name) {
		return 14
	}
	return 2 * (2 + len(entity.CDC()) - len(mayLack))
}

// countRefused looks whether scans went on asking CDC for an entity that was refused (I16).
func (r *run) countRefused(before, after map[string]int, realms []string, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, realm := range realms {
		key := realm + "/" + name + "/cdc"
		n := after[key] - before[key]
		r.refusals += n
		if most := mostRefused(name); n > most && !r.effects.forgets {
			r.unbounded = append(r.unbounded, fmt.Sprintf("cdc asked %d times for %s of realm %s, which QuickBooks refused, and %d would do", n, name, realm, most))
		}
	}
}

// askRefused is a person who has entities asked for again that a company has refused.
func (r *run) askRefused(ctx context.Context, realms []string) error {
	for _, realm := range realms {
		var names []string
		err := until(ctx, func(ctx context.Context) error {
			all, err := r.plant.state.Refusals(ctx, realm)
			names = nil
			for _, one := range all {
				names = append(names, one.Entity)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(names) == 0 {
			continue
		}
		names = slices.Compact(names) // sorted
		r.note("person", realm, fmt.Sprintf("has %v asked for again", names))
		err = until(ctx, func(ctx context.Context) error {
			_, _, err := r.plant.state.Ask(ctx, store.Job{Realm: realm, Entities: names, By: "chaos"})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refuseCompany refuses every call of a company: its subscription has ended, or who
// connected it has lost the right. Afterwards a person connects it again.
func refuseCompany(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms[:len(r.plant.realms)-1])
	refusal := qbosim.Refusal{Realm: realm, Recorded: choose(rng, []string{"access-120", "forbidden-3100", "ended-6190"})}
	r.plant.books.refuse(refusal)
	return func(ctx context.Context) error {
		r.plant.books.lift(refusal)
		return r.revive(ctx, []string{realm})
	}, fmt.Sprintf("%s by %s", realm, refusal.Recorded), nil
}

// refuseFreshTokens answers 401 to the good tokens of a company: another token does not
// help, and refreshes that follow each other are punished.
func refuseFreshTokens(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.plant.realms[:len(r.plant.realms)-1])
	refusal := qbosim.Refusal{Realm: realm, Recorded: choose(rng, []string{"auth-100", "cluster-130"})}
	before := r.plant.books.Stats().RefreshesByRealm[realm]
	r.plant.books.refuse(refusal)
	return func(ctx context.Context) error {
		n := r.plant.books.Stats().RefreshesByRealm[realm] - before
		r.plant.books.lift(refusal)
		r.mu.Lock()
		again := r.unauthorized[realm]
		r.unauthorized[realm] = true
		if n > refreshesPerFault && !r.effects.forgets {
			r.refreshed = append(r.refreshed, fmt.Sprintf("the token of realm %s was refreshed %d times within seconds while QuickBooks answered 401, and %d would do", realm, n, refreshesPerFault))
		}
		r.mu.Unlock()
		if again {
			// It would be held for longer than a run settles: a person looks at it. Where Redis
			// is away, it waits.
			_ = r.plant.connections.Release(ctx, realm)
		}
		return nil
	}, fmt.Sprintf("%s by %s", realm, refusal.Recorded), nil
}

// refreshesPerFault is one for the 401, one for a token that has run out meanwhile, and one
// that was under way at the beginning.
const refreshesPerFault = 3

// refuseRefreshes refuses good refresh tokens: of all companies, as with the keys of
// another app, or of one, as in an incident. Afterwards a person has the tokens of those
// tried again that do not come back by themselves.
func refuseRefreshes(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	refusal := qbosim.TokenRefusal{Description: qbosim.WrongClient}
	realms := r.plant.realms
	if rng.IntN(2) == 0 {
		refusal = qbosim.TokenRefusal{Realm: choose(rng, realms)}
		realms = []string{refusal.Realm}
	}
	about := ""
	for _, realm := range realms {
		if !r.expire(ctx, realm) {
			about = ", tokens stay: Redis is away"
		}
	}
	r.plant.books.alter(func(f *qbosim.Faults) { f.RefuseRefresh = []qbosim.TokenRefusal{refusal} })
	return func(ctx context.Context) error {
		r.plant.books.alter(func(f *qbosim.Faults) { f.RefuseRefresh = nil })
		return r.revive(ctx, realms)
	}, fmt.Sprintf("realm %q: %q%s", refusal.Realm, refusal.Description, about), nil
}

// reviveWait is how long a company may take to be live again by itself once what was wrong
// is right.
const reviveWait = 5 * time.Second

// revive is a person who looks at companies that are not live: he has their token tried
// again, and connects those anew of which Intuit takes none.
func (r *run) revive(ctx context.Context, realms []string) error {
	for _, realm := range realms {
		if r.live(ctx, realm, reviveWait) {
			continue
		}
		err := r.plant.connections.Refresh(ctx, realm)
		if err == nil && r.live(ctx, realm, 0) {
			r.note("person", realm, "its token is tried again, and is good")
			continue
		}
		r.note("person", realm, fmt.Sprintf("is connected again: %v", err))
		if err := until(ctx, func(ctx context.Context) error { return r.plant.consent(ctx, realm) }); err != nil {
			return err
		}
	}
	return nil
}

// live waits for a company to be live, for that long.
func (r *run) live(ctx context.Context, realm string, wait time.Duration) bool {
	for end := time.Now().Add(wait); ; {
		c, err := r.plant.connections.Get(ctx, realm)
		if err == nil && c.State == connection.Live {
			return true
		}
		if time.Now().After(end) || lifecycle.Sleep(ctx, poll) != nil {
			return false
		}
	}
}

// unselect unticks event types: scans alone tell of their changes.
func unselect(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	types := []qbosim.Unselected{{Entity: "Invoice", Operation: "Update"}, {Entity: "Customer", Operation: "Create"}, {Entity: "Payment", Operation: "Delete"}}
	types = types[:1+rng.IntN(len(types))]
	r.plant.books.SetUnselected(types)
	return func(context.Context) error {
		r.plant.books.SetUnselected(nil)
		return nil
	}, fmt.Sprint(types), nil
}

// inactiveBudgets makes Budgets that a Query leaves out unless it is asked for inactive
// ones, and one that is active again.
func inactiveBudgets(_ context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	realm := choose(rng, r.load.realms)
	var refs []qbosim.Ref
	for range 3 {
		ref, err := r.plant.books.Create(realm, "Budget", nil)
		if err != nil {
			return nil, realm, err
		}
		refs = append(refs, ref)
	}
	var errs []error
	for _, ref := range refs[1:] {
		errs = append(errs, r.plant.books.Deactivate(ref))
	}
	return func(context.Context) error {
		return r.plant.books.Update(refs[2], map[string]any{"Active": true})
	}, realm, errors.Join(errs...)
}
