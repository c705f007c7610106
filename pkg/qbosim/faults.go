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
	// ReadLag makes the API show the state of that long ago.
	ReadLag time.Duration
	// Poison names records that fail every CDC, Query and read they are in
	// with 400 and code 4002.
	Poison []Ref
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
	} {
		if !(share.value >= 0 && share.value <= 1) {
			return fmt.Errorf("%s %v: give a share from 0 to 1", share.name, share.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", f.Delay}, {"retryAfter", f.RetryAfter}, {"readLag", f.ReadLag}, {"latency", f.Latency}} {
		if d.value < 0 {
			return fmt.Errorf("%s %v: give a positive duration", d.name, d.value)
		}
	}
	for _, o := range f.Outages {
		if o.From < 0 || o.For <= 0 {
			return fmt.Errorf("outage %v:%v: give a start of 0 or later and a length above 0", o.From, o.For)
		}
	}
	return nil
}

// activeFaults are the faults with what is looked up often.
type activeFaults struct {
	Faults
	poison map[Ref]bool
}

// SetFaults replaces all faults from now on. Shares above 1 mean always.
func (s *Sim) SetFaults(f Faults) {
	active := &activeFaults{Faults: f.clone(), poison: map[Ref]bool{}}
	for _, ref := range f.Poison {
		if info, ok := entity.Lookup(ref.Entity); ok {
			ref.Entity = info.Name
		}
		active.poison[ref] = true
	}
	s.faults.Store(active)
}

// Faults returns the faults in force.
func (s *Sim) Faults() Faults { return s.faults.Load().clone() }

func (f Faults) clone() Faults {
	f.Outages, f.Poison = slices.Clone(f.Outages), slices.Clone(f.Poison)
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
	Latency    duration     `json:"latency"`
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
		Poison: f.Poison, Latency: duration(f.Latency),
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
		Poison: in.Poison, Latency: time.Duration(in.Latency),
	}
	for _, o := range in.Outages {
		f.Outages = append(f.Outages, Outage{From: time.Duration(o.From), For: time.Duration(o.For)})
	}
	return f.validate()
}
