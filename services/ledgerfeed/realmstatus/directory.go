package realmstatus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// Options are what [New] needs. State and Connections are required.
type Options struct {
	State       *state.Store
	Connections *connection.Store
	Now         func() time.Time
}

// Directory lists realms. It is safe for concurrent use.
type Directory struct {
	state       *state.Store
	connections *connection.Store
	now         func() time.Time

	mu      sync.Mutex // guards summary
	summary Summary
}

// New makes a directory.
func New(o Options) (*Directory, error) {
	if o.State == nil || o.Connections == nil {
		return nil, errors.New("realm: State and Connections are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Directory{state: o.State, connections: o.Connections, now: o.Now}, nil
}

// Realm is a company and how it is doing.
type Realm struct {
	connection.Listed
	// Health is how it is doing, and Why is why it is not live, in words.
	Health State
	Why    string
	state.Progress
	// OldestCursor is up to when everything that each scan covers is delivered, and
	// OldestEntity what is furthest behind; zero before the first load is over.
	OldestCursor time.Time
	OldestEntity string
	// Company is its name; empty if no scan has read it yet.
	Company string
}

// Query chooses realms, in the order of their ids as text.
type Query struct {
	// After is Next of the page before; "" for the first.
	After string
	// Limit is how many to return; 100 if 0, at most 1,000.
	Limit int
	// States; none means all.
	States []State
	// Prefix of the ids.
	Prefix string
	// App is the name of the app; "" for any.
	App string
}

// Page is a part of a list.
type Page struct {
	Realms []Realm
	// Next is After of the next page, "" if this is the last. A page may hold fewer
	// realms than asked for, even none, and have a next one: looking for what a filter
	// wants is broken off after some thousands.
	Next string
}

// maxPages bounds the work of one List that looks for what a filter wants.
const maxPages = 10

// List returns a part of all realms that ever were connected.
func (d *Directory) List(ctx context.Context, q Query) (Page, error) {
	page, err := d.list(ctx, q)
	if err != nil {
		return Page{}, err
	}
	return page, d.named(ctx, page.Realms)
}

func (d *Directory) list(ctx context.Context, q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, connection.MaxPage)
	var page Page
	after, read := q.After, q.Limit
	for range maxPages {
		found, next, err := d.page(ctx, q, after, read)
		if err != nil {
			return Page{}, err
		}
		for _, r := range found {
			if len(page.Realms) == q.Limit {
				page.Next = page.Realms[q.Limit-1].RealmID
				return page, nil
			}
			if len(q.States) == 0 || slices.Contains(q.States, r.Health) {
				page.Realms = append(page.Realms, r)
			}
		}
		page.Next, after = next, next
		if next == "" || len(page.Realms) == q.Limit {
			return page, nil
		}
		// Few were wanted: look at more at a time.
		read = min(4*read, connection.MaxPage)
	}
	return page, nil
}

// named puts in the names of the companies.
func (d *Directory) named(ctx context.Context, realms []Realm) error {
	ids := make([]string, len(realms))
	for i, r := range realms {
		ids[i] = r.RealmID
	}
	names, err := d.state.CompanyNames(ctx, ids)
	for i, id := range ids {
		realms[i].Company = names[id]
	}
	return err
}

// page reads one page of up to limit connections and judges them.
func (d *Directory) page(ctx context.Context, q Query, after string, limit int) ([]Realm, string, error) {
	var states []connection.State
	for _, s := range q.States {
		states = append(states, s.connections()...)
	}
	slices.Sort(states)
	found, err := d.connections.Page(ctx, connection.Query{
		After: after, Limit: limit, States: slices.Compact(states), Prefix: q.Prefix, App: q.App,
	})
	if err != nil {
		return nil, "", err
	}
	realms, err := d.judge(ctx, found.Realms)
	return realms, found.Next, err
}

func (d *Directory) judge(ctx context.Context, listed []connection.Listed) ([]Realm, error) {
	ids := make([]string, len(listed))
	for i, l := range listed {
		ids[i] = l.RealmID
	}
	progress, err := d.state.Progresses(ctx, ids)
	if err != nil {
		return nil, err
	}
	watch, err := d.state.Watch(ctx)
	if err != nil {
		return nil, err
	}
	problems, err := d.state.AppProblems(ctx)
	if err != nil {
		return nil, err
	}
	apps := map[string]state.AppProblem{}
	for _, p := range problems {
		apps[p.App] = p
	}
	realms := make([]Realm, len(listed))
	for i, l := range listed {
		r := Realm{Listed: l, Progress: progress[i]}
		r.Health, r.Why = judge(d.now(), l.Connection, r.Progress, watch, apps[l.App])
		r.OldestEntity, r.OldestCursor = oldest(r.Progress)
		realms[i] = r
	}
	return realms, nil
}

// Get returns one realm, or an error that wraps connection.ErrNotConnected.
func (d *Directory) Get(ctx context.Context, id string) (Realm, error) {
	listed, err := d.connections.Listed(ctx, id)
	if err != nil {
		return Realm{}, err
	}
	realms, err := d.judge(ctx, []connection.Listed{listed})
	if err != nil {
		return Realm{}, err
	}
	return realms[0], d.named(ctx, realms)
}

// Summary is how many realms are in each state.
type Summary struct {
	Counts map[State]int
	Total  int
	At     time.Time
}

// Summary counts the realms by state. It looks at all that are live, which takes some
// seconds for 100,000; an answer that is younger than maxAge is given again.
func (d *Directory) Summary(ctx context.Context, maxAge time.Duration) (Summary, error) {
	d.mu.Lock()
	defer d.mu.Unlock() // others wait for the one that counts
	if age := d.now().Sub(d.summary.At); d.summary.Counts != nil && age >= 0 && age < maxAge {
		return d.summary, nil
	}
	s := Summary{Counts: map[State]int{}, At: d.now()}
	counts, err := d.connections.Counts(ctx)
	if err != nil {
		return Summary{}, err
	}
	for _, health := range []State{NoAccess, SubscriptionEnded, WrongEnvironment, Parked, PendingApproval, Disconnected} {
		for _, c := range health.connections() {
			if counts[c] > 0 {
				s.Counts[health] += counts[c]
				s.Total += counts[c]
			}
		}
	}
	q := Query{Limit: connection.MaxPage, States: []State{Live, CatchingUp, GapSuspected}}
	for after, more := "", true; more; more = after != "" {
		var found []Realm
		if found, after, err = d.page(ctx, q, after, q.Limit); err != nil {
			return Summary{}, err
		}
		for _, r := range found {
			s.Counts[r.Health]++
			s.Total++
		}
	}
	d.summary = s
	return s, nil
}
