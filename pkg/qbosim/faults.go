package qbosim

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Faults is what goes wrong. Shares are from 0 to 1 and drawn by the seed, so
// that the same changes meet the same webhook faults in every run. The zero
// value is a QuickBooks on a good day.
type Faults struct {
	// Drop, Duplicate and Reorder are shares of webhook events: lost for
	// good, sent a second time later, held back behind later ones.
	Drop, Duplicate, Reorder float64
	// Delay is the longest that a webhook event waits before it is sent; each
	// waits a part of it.
	Delay time.Duration
	// Outages are spans in which every webhook is lost for good.
	Outages []Outage
	// HideMerged is the share of CloudEvents merges that do not say which
	// record was merged away.
	HideMerged float64
	// Error429 and Error5xx are shares of API calls.
	Error429, Error5xx float64
	// RetryAfter goes out with each 429, in whole seconds rounded up. 0 sends
	// none, as Intuit is not known to.
	RetryAfter time.Duration
	// ReadLag makes the API show the state of that long ago: every replica lags by
	// exactly that.
	ReadLag time.Duration
	// ReplicaLag is the longest that one of the three read replicas lags by
	// Intuit's clock, beyond ReadLag. One replica answers a whole call, a batch
	// included. Each has a lag of its own, which is 0 now and then and drawn anew
	// at every sixteenth call; a later answer may show an older state.
	ReplicaLag time.Duration
	// WrongDeletes is the share of webhook events that come with a second event,
	// signed like any other: the deletion of a record that is alive. It names
	// that record itself, which may be a moment old, or another one of the realm.
	WrongDeletes float64
	// FutureDeletes is the share of the wrong deletions that bear a time in the
	// future: hours to a year ahead.
	FutureDeletes float64
	// BareDeletes is the share of deleted objects that CDC shows without MetaData.
	BareDeletes float64
	// Derived is the share of changes of transactions that also move a balance or
	// a quantity of another record: Balance of a customer or vendor, QtyOnHand of
	// an item, CurrentBalance of an account. LastUpdatedTime of that record moves,
	// its SyncToken does not. Half of these have no webhook.
	Derived float64
	// SilentDerived is the share of derived changes that move neither
	// LastUpdatedTime nor SyncToken: the document differs, its version does not.
	SilentDerived float64
	// UnknownRealms is the share of webhook events that come with an event of a
	// company that consented to the app but is no realm of this simulator.
	UnknownRealms float64
	// BackwardTime is the share of updates after which the record is written once
	// more, with the next SyncToken and a LastUpdatedTime one second earlier.
	BackwardTime float64
	// Poison names records that fail every CDC, Query and read they are in
	// with 400 and code 4002.
	Poison []Ref
	// Hidden names records that no Query shows or counts, as where who connected the
	// company may not see them. CDC and a read by id show them.
	Hidden []Ref
	// Refuse answers calls with something else than what was asked for.
	Refuse []Refusal
	// RefuseRefresh answers refreshes with invalid_grant and leaves the token good.
	RefuseRefresh []TokenRefusal
	// RefuseRevoke answers every revocation with 400 and revokes nothing, as a malformed
	// request is answered.
	RefuseRevoke bool
	// Unfilterable are entities of which Query takes neither conditions nor an order
	// (400, code 4001), as Preferences is documented to be.
	Unfilterable []string
	// Latency is added to every API call, within the time it counts as
	// concurrent.
	Latency time.Duration
}

// Outage is a span from the start of the load ([Sim.BeginLoad]).
type Outage struct {
	From, For time.Duration
}

func (f Faults) validate() error {
	for _, share := range []struct {
		name  string
		value float64
	}{
		{"drop", f.Drop}, {"duplicate", f.Duplicate}, {"reorder", f.Reorder},
		{"hideMerged", f.HideMerged}, {"error429", f.Error429}, {"error5xx", f.Error5xx},
		{"wrongDeletes", f.WrongDeletes}, {"futureDeletes", f.FutureDeletes}, {"bareDeletes", f.BareDeletes},
		{"derived", f.Derived}, {"silentDerived", f.SilentDerived}, {"unknownRealms", f.UnknownRealms}, {"backwardTime", f.BackwardTime},
	} {
		if !(share.value >= 0 && share.value <= 1) {
			return fmt.Errorf("%s %v: give a share from 0 to 1", share.name, share.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"delay", f.Delay}, {"retryAfter", f.RetryAfter}, {"readLag", f.ReadLag}, {"replicaLag", f.ReplicaLag}, {"latency", f.Latency},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s %v: give a positive duration", d.name, d.value)
		}
	}
	for _, o := range f.Outages {
		if o.From < 0 || o.For <= 0 {
			return fmt.Errorf("outage %v:%v: give a start of 0 or later and a length above 0", o.From, o.For)
		}
	}
	return f.validateRefusals()
}

func (f Faults) validateRefusals() error {
	for _, r := range f.Refuse {
		if err := r.validate(); err != nil {
			return err
		}
	}
	for _, r := range f.RefuseRefresh {
		if err := r.validate(); err != nil {
			return err
		}
	}
	for _, name := range f.Unfilterable {
		if _, ok := entity.Lookup(name); !ok {
			return fmt.Errorf("unfilterable %q: %w", name, ErrUnknownEntity)
		}
	}
	return nil
}

// activeFaults are the faults with what is looked up often.
type activeFaults struct {
	Faults
	poison       map[Ref]bool
	hidden       map[Ref]bool
	refusals     []since[Refusal]
	refreshes    []since[TokenRefusal]
	unfilterable map[string]bool
}

// SetFaults replaces all faults from now on. Shares above 1 mean always. A refusal
// that was in force already goes on from when it began.
func (s *Sim) SetFaults(f Faults) {
	active := &activeFaults{Faults: f.clone(), poison: setOf(f.Poison), hidden: setOf(f.Hidden), unfilterable: map[string]bool{}}
	before := s.faults.Load()
	if before == nil {
		before = &activeFaults{}
	}
	active.refusals = begin(before.refusals, expandAll(f.Refuse), s.now())
	active.refreshes = begin(before.refreshes, f.RefuseRefresh, s.now())
	for _, name := range f.Unfilterable {
		active.unfilterable[entity.Canonical(name)] = true
	}
	s.faults.Store(active)
}

// setOf are the records, under the names of the entities as we spell them.
func setOf(refs []Ref) map[Ref]bool {
	set := map[Ref]bool{}
	for _, ref := range refs {
		if info, ok := entity.Lookup(ref.Entity); ok {
			ref.Entity = info.Name
		}
		set[ref] = true
	}
	return set
}

// Faults returns the faults in force.
func (s *Sim) Faults() Faults { return s.faults.Load().clone() }

func (f Faults) clone() Faults {
	f.Outages, f.Poison = slices.Clone(f.Outages), slices.Clone(f.Poison)
	f.Hidden = slices.Clone(f.Hidden)
	f.Refuse, f.RefuseRefresh, f.Unfilterable = slices.Clone(f.Refuse), slices.Clone(f.RefuseRefresh), slices.Clone(f.Unfilterable)
	return f
}

// BeginLoad is time 0 of the outages; before the first call it is New.
func (s *Sim) BeginLoad() {
	now := s.now()
	s.load.Store(&now)
}

func (s *Sim) inOutage() bool {
	into := s.now().Sub(*s.load.Load())
	for _, o := range s.faults.Load().Outages {
		if into >= o.From && into < o.From+o.For {
			return true
		}
	}
	return false
}

// faultsJSON has durations as people write them.
type faultsJSON struct {
	Drop       float64      `json:"drop"`
	Duplicate  float64      `json:"duplicate"`
	Reorder    float64      `json:"reorder"`
	Delay      duration     `json:"delay"`
	Outages    []outageJSON `json:"outages"`
	HideMerged float64      `json:"hideMerged"`
	Error429   float64      `json:"error429"`
	Error5xx   float64      `json:"error5xx"`
	RetryAfter duration     `json:"retryAfter"`
	ReadLag    duration     `json:"readLag"`
	Poison     []Ref        `json:"poison"`
	Hidden     []Ref        `json:"hidden,omitempty"`
	Latency    duration     `json:"latency"`

	ReplicaLag    duration `json:"replicaLag"`
	WrongDeletes  float64  `json:"wrongDeletes"`
	FutureDeletes float64  `json:"futureDeletes"`
	BareDeletes   float64  `json:"bareDeletes"`
	Derived       float64  `json:"derived"`
	SilentDerived float64  `json:"silentDerived"`
	UnknownRealms float64  `json:"unknownRealms"`
	BackwardTime  float64  `json:"backwardTime"`

	Refuse        []Refusal      `json:"refuse"`
	RefuseRefresh []TokenRefusal `json:"refuseRefresh"`
	RefuseRevoke  bool           `json:"refuseRevoke"`
	Unfilterable  []string       `json:"unfilterable"`
}

type outageJSON struct {
	From duration `json:"from"`
	For  duration `json:"for"`
}

type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// MarshalJSON writes durations as text ("1.5s").
func (f Faults) MarshalJSON() ([]byte, error) {
	out := faultsJSON{
		Drop: f.Drop, Duplicate: f.Duplicate, Reorder: f.Reorder, Delay: duration(f.Delay), HideMerged: f.HideMerged,
		Error429: f.Error429, Error5xx: f.Error5xx, RetryAfter: duration(f.RetryAfter), ReadLag: duration(f.ReadLag),
		Poison: f.Poison, Hidden: f.Hidden, Latency: duration(f.Latency), ReplicaLag: duration(f.ReplicaLag),
		WrongDeletes: f.WrongDeletes, FutureDeletes: f.FutureDeletes, BareDeletes: f.BareDeletes,
		Derived: f.Derived, SilentDerived: f.SilentDerived, UnknownRealms: f.UnknownRealms, BackwardTime: f.BackwardTime,
		Refuse: f.Refuse, RefuseRefresh: f.RefuseRefresh, RefuseRevoke: f.RefuseRevoke, Unfilterable: f.Unfilterable,
	}
	for _, o := range f.Outages {
		out.Outages = append(out.Outages, outageJSON{From: duration(o.From), For: duration(o.For)})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes; missing fields become zero, a
// value out of range is an error.
func (f *Faults) UnmarshalJSON(data []byte) error {
	var in faultsJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*f = Faults{
		Drop: in.Drop, Duplicate: in.Duplicate, Reorder: in.Reorder, Delay: time.Duration(in.Delay), HideMerged: in.HideMerged,
		Error429: in.Error429, Error5xx: in.Error5xx, RetryAfter: time.Duration(in.RetryAfter), ReadLag: time.Duration(in.ReadLag),
		Poison: in.Poison, Hidden: in.Hidden, Latency: time.Duration(in.Latency), ReplicaLag: time.Duration(in.ReplicaLag),
		WrongDeletes: in.WrongDeletes, FutureDeletes: in.FutureDeletes, BareDeletes: in.BareDeletes,
		Derived: in.Derived, SilentDerived: in.SilentDerived, UnknownRealms: in.UnknownRealms, BackwardTime: in.BackwardTime,
		Refuse: in.Refuse, RefuseRefresh: in.RefuseRefresh, RefuseRevoke: in.RefuseRevoke, Unfilterable: in.Unfilterable,
	}
	for _, o := range in.Outages {
		f.Outages = append(f.Outages, Outage{From: time.Duration(o.From), For: time.Duration(o.For)})
	}
	return f.validate()
}
