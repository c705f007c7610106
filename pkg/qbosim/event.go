package qbosim

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// event is one webhook event that waits to be acknowledged.
type event struct {
	Seq        uint64    `json:"seq"`
	Realm      string    `json:"realm"`
	Nth        string    `json:"nth"` // see realm.nth
	Entity     string    `json:"entity"`
	EntityID   string    `json:"id"`
	Operation  string    `json:"op"`
	MergedID   string    `json:"merged,omitempty"`
	HideMerged bool      `json:"hide,omitempty"`
	At         time.Time `json:"at"`
	// Version counts the record's versions before this change. What is drawn
	// for the event comes from it, not from the clock.
	Version int `json:"version"`
	// Forged events claim a deletion that never happened.
	Forged bool `json:"forged,omitempty"`
	// Unknown events are of a company that is no realm of the simulator.
	Unknown bool `json:"unknown,omitempty"`

	hold time.Duration // how long it waits by fault
	due  time.Time     // when it may be sent, in real time
}

func (e event) draw(s *Sim, question string) *rand.Rand {
	if e.Forged {
		question = "forged " + question // or a true deletion would meet the same faults
	}
	return s.draw(question, e.Nth, e.Entity, e.EntityID, e.Operation, fmt.Sprint(e.Version))
}

// dueEvents is a heap: the next to be sent first.
type dueEvents []event

func (q dueEvents) Len() int { return len(q) }
func (q dueEvents) Less(i, j int) bool {
	return cmp.Or(q[i].due.Compare(q[j].due), cmp.Compare(q[i].Seq, q[j].Seq)) < 0
}
func (q dueEvents) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *dueEvents) Push(x any)   { *q = append(*q, x.(event)) }
func (q *dueEvents) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// take removes the events that are due at t, the first ones first.
func (q *dueEvents) take(t time.Time) []event {
	var taken []event
	for len(*q) > 0 && !(*q)[0].due.After(t) {
		taken = append(taken, heap.Pop(q).(event))
	}
	return taken
}

type cloudEvent struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Source          string         `json:"source"`
	Type            string         `json:"type"`
	DataContentType string         `json:"datacontenttype,omitempty"`
	Time            string         `json:"time"`
	IntuitEntityID  string         `json:"intuitentityid"`
	IntuitAccountID string         `json:"intuitaccountid"`
	Data            map[string]any `json:"data"`
}

func cloudVerb(operation string) string {
	switch operation {
	case opCreate:
		return "created"
	case opDelete:
		return "deleted"
	case opMerge:
		return "merged"
	case opVoid:
		return "void"
	case opEmailed:
		return "emailed"
	}
	return "updated"
}

// cloud is the event in the CloudEvents format, with the variety Intuit's own
// material shows: milli- or nanoseconds, data empty or not, void or voided.
func (e event) cloud(s *Sim) cloudEvent {
	rng := e.draw(s, "cloudevent")
	verb := cloudVerb(e.Operation)
	if e.Operation == opVoid && chance(rng, 0.25) {
		verb = "voided"
	}
	at := e.At.UTC().Format("2006-01-02T15:04:05.000Z")
	if chance(rng, 0.5) {
		at = fmt.Sprintf("%s%06dZ", strings.TrimSuffix(at, "Z"), rng.IntN(1_000_000))
	}
	c := cloudEvent{
		SpecVersion: "1.0",
		// The time makes the id new in a new simulator with an old seed.
		ID:              uuid(s.draw("event id", e.Realm, e.Entity, e.EntityID, e.Operation, e.At.String())),
		Source:          "intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",
		Type:            fmt.Sprintf("qbo.%s.%s.v1", strings.ToLower(e.Entity), verb),
		Time:            at,
		IntuitEntityID:  e.EntityID,
		IntuitAccountID: e.Realm,
		Data:            map[string]any{},
	}
	if chance(rng, 0.75) {
		c.DataContentType = "application/json"
	}
	if chance(rng, 0.25) {
		c.Data["alternative_ids"] = []any{map[string]any{"id": fmt.Sprintf("djQu%016x", rng.Uint64()), "namespace": "Intuit.sbseg.v4"}}
	}
	spelling := pick(rng, []string{"deletedid", "deletedId", "deletedID"})
	if e.MergedID != "" && !e.HideMerged {
		c.Data[spelling] = e.MergedID
	}
	return c
}

type legacyEntity struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	Operation   string `json:"operation"`
	LastUpdated string `json:"lastUpdated"`
	DeletedID   string `json:"deletedId,omitempty"`
}

// legacy is the event in the old format; its time now and then has the
// colon-less offset and whole seconds of Intuit's first documentation.
func (e event) legacy(s *Sim) legacyEntity {
	at := e.At.UTC().Format("2006-01-02T15:04:05.000Z")
	if chance(e.draw(s, "legacy"), 0.125) {
		at = e.At.In(zones[0]).Format(offsetWithoutColon)
	}
	return legacyEntity{Name: e.Entity, ID: e.EntityID, Operation: e.Operation, LastUpdated: at, DeletedID: e.MergedID}
}

const offsetWithoutColon = "2006-01-02T15:04:05-0700"

func uuid(rng *rand.Rand) string {
	hi, lo := rng.Uint64(), rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xfff, lo>>48&0x3fff|0x8000, lo&0xffffffffffff)
}
