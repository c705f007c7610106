package qbosim

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// ForgeDelete sends a correctly signed event that says the record was deleted at
// that time; the zero time is now. The record need not exist, and nothing happens
// to it. The event meets the faults that any other does.
func (s *Sim) ForgeDelete(ref Ref, at time.Time) error {
	r := s.realm(ref.Realm)
	if r == nil {
		return fmt.Errorf("realm %q: %w", ref.Realm, ErrUnknownRealm)
	}
	info, err := lookup(ref.Entity)
	switch {
	case err != nil:
		return err
	case !slices.Contains(info.Operations, opDelete):
		return fmt.Errorf("webhook of a deleted %s: %w", info.Name, ErrNotSupported)
	case ref.ID == "":
		return errors.New("a deletion needs an id")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := s.clockLocked(r)
	if at.IsZero() {
		at = now
	}
	e := event{Realm: r.id, Nth: r.nth, Entity: info.Name, EntityID: ref.ID, Operation: opDelete, At: at.UTC(), Forged: true}
	if rec := r.tableLocked(info).records[ref.ID]; rec != nil {
		e.Version = len(rec.versions)
	}
	return s.sendLocked(r.id, now, []event{e})
}

// SendUnknown sends events of a company that consented to the app but is no realm
// of the simulator.
func (s *Sim) SendUnknown(realm string, n int) error {
	if realm == "" {
		return errors.New("a company needs an id")
	}
	if s.realm(realm) != nil {
		return fmt.Errorf("company %s: a realm of the simulator is not unknown", realm)
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	events := make([]event, n)
	for i := range events {
		nth := s.unknown.Add(1)
		events[i] = unknownEvent(s.draw("unknown", count(nth)), realm, now)
		events[i].Version = int(nth)
	}
	return s.sendLocked("", now, events)
}

// sendLocked queues events that no change made. The realm, if any, is locked.
func (s *Sim) sendLocked(realm string, now time.Time, events []event) error {
	pending := s.hooks.admit(events)
	if len(pending) == 0 {
		return nil
	}
	if err := s.journal.append(entry{Realm: realm, At: now, Events: pending}); err != nil {
		return err
	}
	s.hooks.enqueue(pending)
	return nil
}

// accompanied are the events of a change with those that the faults add: wrong
// deletions, and events of companies that nobody connected.
func (tx *tx) accompanied() []event {
	faults := tx.sim.faults.Load()
	if faults.WrongDeletes == 0 && faults.UnknownRealms == 0 {
		return tx.events
	}
	var all []event
	for _, e := range tx.events {
		all = append(all, e)
		rng := e.draw(tx.sim, "wrong delete")
		if chance(rng, faults.WrongDeletes) {
			if wrong, ok := tx.wrongDelete(rng, e, faults.FutureDeletes); ok {
				all = append(all, wrong)
			}
		}
		rng = e.draw(tx.sim, "unknown realm")
		if realm := fmt.Sprintf("88880000%07d", rng.IntN(unknownRealms)); chance(rng, faults.UnknownRealms) && tx.sim.realm(realm) == nil {
			unknown := unknownEvent(rng, realm, tx.at)
			unknown.Version = e.Version
			all = append(all, unknown)
		}
	}
	return all
}

// unknownRealms is how many companies Faults.UnknownRealms draws from.
const unknownRealms = 5

func unknownEvent(rng *rand.Rand, realm string, at time.Time) event {
	return event{
		Realm: realm, Nth: realm, Entity: pick(rng, []string{"Customer", "Invoice", "Payment", "TimeActivity"}),
		EntityID: fmt.Sprint(1 + rng.IntN(10_000)), Operation: pick(rng, []string{opCreate, opUpdate, opUpdate, opDelete}),
		At: at, Unknown: true,
	}
}

// wrongDelete claims that a live record was deleted: every second time that of
// the event itself, which the API may not show yet.
func (tx *tx) wrongDelete(rng *rand.Rand, e event, future float64) (event, bool) {
	own, ahead := chance(rng, 0.5), chance(rng, future)
	wrong := event{Realm: tx.realm.id, Nth: tx.realm.nth, Operation: opDelete, At: tx.at, Forged: true}
	if ahead {
		longest := pick(rng, []time.Duration{6 * time.Hour, 48 * time.Hour, 30 * 24 * time.Hour, 365 * 24 * time.Hour})
		wrong.At = wrong.At.Add(time.Hour + time.Duration(rng.Int64N(int64(longest-time.Hour)))).Truncate(time.Millisecond)
	}
	name, id, other := tx.anyLive(rng)
	if alive := tx.livesOn(e.Entity, e.EntityID); alive && (own || !other) {
		name, id = e.Entity, e.EntityID
	} else if !other {
		return event{}, false
	}
	wrong.Entity, wrong.EntityID = name, id
	if t := tx.realm.tables[wrong.Entity]; t != nil && t.records[wrong.EntityID] != nil {
		wrong.Version = len(t.records[wrong.EntityID].versions)
	}
	return wrong, true
}

// anyLive draws a record of the realm. It gives up when the realm has hardly any.
func (tx *tx) anyLive(rng *rand.Rand) (name, id string, ok bool) {
	var from []*record
	var names []string
	for _, name := range slices.Sorted(maps.Keys(tx.realm.tables)) {
		for _, rec := range tx.realm.tables[name].live {
			from, names = append(from, rec), append(names, name)
		}
	}
	for range 8 {
		if len(from) == 0 {
			break
		}
		n := rng.IntN(len(from))
		if tx.livesOn(names[n], from[n].id) {
			return names[n], from[n].id, true
		}
	}
	return "", "", false
}

// livesOn says whether a record that has a webhook for its deletion is there, and
// active, once the change is committed.
func (tx *tx) livesOn(name, id string) bool {
	info, err := lookup(name)
	if err != nil || !slices.Contains(info.Operations, opDelete) {
		return false
	}
	for _, w := range tx.writes {
		if w.Entity == name && w.ID == id {
			return !w.Deleted && !w.Inactive
		}
	}
	t := tx.realm.tables[name]
	if t == nil || t.records[id] == nil {
		return false
	}
	last := t.records[id].latest()
	return !last.Deleted && !last.Inactive
}
