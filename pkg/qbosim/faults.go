package qbosim

import (
	"fmt"
	"time"
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
