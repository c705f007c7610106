package qbosim

import (
	"container/heap"
	"slices"
	"sync"
	"time"
)

// hooks is the queue of webhook events. One delivery is out at a time: until
// the app has acknowledged it, all that follows is withheld, as Intuit does.
type hooks struct {
	sim  *Sim
	post poster
	turn chan struct{} // held while delivering: by Run or by FlushWebhooks
	wake chan struct{}

	mu      sync.Mutex // guards the rest
	url     string
	seq     uint64
	waiting dueEvents
	out     []*delivery // formed; the first is in flight or waits for its retry
	counts  hookCounts
}

type hookCounts struct{ webhooks, events, dropped, attempts, failures, forged, unknown, unselected int }

// add counts an event that is there by a fault.
func (c *hookCounts) add(e event) {
	switch {
	case e.Forged:
		c.forged++
	case e.Unknown:
		c.unknown++
	}
}

func newHooks(s *Sim, url string) *hooks {
	return &hooks{sim: s, post: newPoster(), url: url, turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
}

// SetWebhookURL subscribes the app's endpoint, "" unsubscribes. What waits is
// sent to the new one.
func (s *Sim) SetWebhookURL(url string) {
	s.hooks.mu.Lock()
	s.hooks.url = url
	s.hooks.mu.Unlock()
	s.hooks.rouse()
}

// Settled says that no webhook is queued, in flight or waiting for a retry.
func (s *Sim) Settled() bool {
	h := s.hooks
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting) == 0 && len(h.out) == 0
}

// admit decides which of the events the app is going to get: none without a
// subscription or a connected realm, and what the faults leave of the rest.
func (h *hooks) admit(events []event) []event {
	faults, down := h.sim.faults.Load(), h.sim.inOutage()
	var admitted []event
	for _, e := range events {
		connected := e.Unknown || h.sim.tokens.connected(e.Realm)
		h.mu.Lock()
		if h.url == "" || !connected {
			h.mu.Unlock()
			continue
		}
		// Every question is asked whatever the answers, so that a fault that is
		// turned on leaves the draws of the others alone.
		rng := e.draw(h.sim, "webhook")
		dropped, doubled, held := chance(rng, faults.Drop), chance(rng, faults.Duplicate), chance(rng, faults.Reorder)
		e.HideMerged = chance(rng, faults.HideMerged)
		e.hold = time.Duration(rng.Float64() * float64(faults.Delay))
		gather := max(h.sim.aggregate, time.Millisecond)
		behind, again := gather*time.Duration(1+rng.IntN(4)), gather*time.Duration(1+rng.IntN(4))
		switch {
		case !h.sim.selected(e):
			h.counts.unselected++
		case dropped || down:
			h.counts.dropped++
		default:
			if held {
				e.hold += behind
			}
			h.seq++
			e.Seq = h.seq
			admitted = append(admitted, e)
			h.counts.add(e)
			if doubled {
				h.seq++
				e.Seq = h.seq
				e.hold += again
				admitted = append(admitted, e)
			}
		}
		h.mu.Unlock()
	}
	return admitted
}

// enqueue queues events that the journal has.
func (h *hooks) enqueue(events []event) {
	if len(events) == 0 {
		return
	}
	now := time.Now()
	h.mu.Lock()
	for _, e := range events {
		e.due = now.Add(e.hold)
		heap.Push(&h.waiting, e)
	}
	h.mu.Unlock()
	h.rouse()
}

func (h *hooks) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// next is when there will be something to do; false: not before a wake.
func (h *hooks) next() (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.url == "":
		return time.Time{}, false
	case len(h.out) > 0:
		return h.out[0].retryAt, true
	case len(h.waiting) > 0:
		return h.waiting[0].due.Add(max(h.sim.aggregate, 0)), true
	}
	return time.Time{}, false
}

// formLocked turns events into deliveries: those that are due once the first
// has waited for the others, or all. While a delivery is out, events go on
// gathering.
func (h *hooks) formLocked(all bool) {
	if len(h.out) > 0 || len(h.waiting) == 0 {
		return
	}
	now := time.Now()
	if all {
		h.out = h.sim.batches(h.waiting.take(now.Add(century)))
	} else if !h.waiting[0].due.Add(max(h.sim.aggregate, 0)).After(now) {
		h.out = h.sim.batches(h.waiting.take(now))
	}
}

const century = 100 * 365 * 24 * time.Hour

// maxBatch is the largest batch that Intuit's engineers have seen.
const maxBatch = 20

// batches splits events by format: CloudEvents mix realms, a legacy body has
// one.
func (s *Sim) batches(events []event) []*delivery {
	var formed []*delivery
	if s.format == Legacy {
		for _, ofRealm := range byRealm(events) {
			for chunk := range slices.Chunk(ofRealm, maxBatch) {
				formed = append(formed, s.delivery(chunk, Legacy))
			}
		}
		return formed
	}
	for chunk := range slices.Chunk(events, maxBatch) {
		if s.format == CloudEvents || chance(s.draw("format", count(chunk[0].Seq)), 0.5) {
			formed = append(formed, s.delivery(chunk, CloudEvents))
			continue
		}
		for _, ofRealm := range byRealm(chunk) {
			formed = append(formed, s.delivery(ofRealm, Legacy))
		}
	}
	return formed
}

// byRealm keeps the order within a realm, and that of the realms.
func byRealm(events []event) [][]event {
	place := map[string]int{}
	var groups [][]event
	for _, e := range events {
		at, ok := place[e.Realm]
		if !ok {
			at = len(groups)
			place[e.Realm] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], e)
	}
	return groups
}
