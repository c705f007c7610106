package qbosim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// The operations, as the legacy webhooks spell them.
const (
	opCreate  = "Create"
	opUpdate  = "Update"
	opDelete  = "Delete"
	opMerge   = "Merge"
	opVoid    = "Void"
	opEmailed = "Emailed"
)

// What a change can be refused for.
var (
	ErrUnknownRealm  = errors.New("unknown realm")
	ErrUnknownEntity = errors.New("unknown entity")
	// ErrNotFound is also the answer for a deleted record.
	ErrNotFound = errors.New("no such record")
	// ErrNotSupported means QuickBooks has no such operation for the entity.
	ErrNotSupported = errors.New("operation not supported")
)

// Create makes a record with made-up fields, over which the given ones are
// laid. Totals are not computed anew for given lines.
func (s *Sim) Create(realm, name string, given map[string]any) (Ref, error) {
	var ref Ref
	err := s.change(realm, func(tx *tx) (err error) {
		ref, err = tx.create(name, given)
		return err
	})
	return ref, err
}

// Update lays the given fields over the record, or changes a few of its own
// choice when none are given.
func (s *Sim) Update(ref Ref, given map[string]any) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.update(ref, given) })
}

// Delete deletes a transaction, and makes a record of a name list inactive.
func (s *Sim) Delete(ref Ref) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.remove(ref) })
}

// HardDelete deletes a record of whatever kind: CDC reports it as Deleted,
// Query does not return it.
func (s *Sim) HardDelete(ref Ref) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.delete(ref) })
}

// Deactivate makes a record of a name list, or a Budget, inactive: an update for CDC and
// Query, a Delete for webhooks.
func (s *Sim) Deactivate(ref Ref) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.deactivate(ref) })
}

// Void takes the amounts out of a transaction and notes "Voided".
func (s *Sim) Void(ref Ref) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.void(ref) })
}

// Email marks a transaction as sent.
func (s *Sim) Email(ref Ref) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.email(ref) })
}

// Merge merges one record of a name list into another: the merged one is
// deleted, and one webhook event about the survivor names it.
func (s *Sim) Merge(survivor, merged Ref) error {
	return s.change(survivor.Realm, func(tx *tx) error { return tx.merge(survivor, merged) })
}

// tx is one change: the records it writes and the webhook event it makes, all
// at one time. Nothing of it shows before it is committed.
type tx struct {
	sim    *Sim
	realm  *realm // locked
	at     time.Time
	steps  uint64 // as the change leaves them
	writes []written
	events []event
}

// change runs stage and commits what it staged: to the journal, then to the
// tables, then to the webhooks. The faults may let further changes follow.
func (s *Sim) change(realm string, stage func(*tx) error) error {
	r := s.realm(realm)
	if r == nil {
		return fmt.Errorf("realm %q: %w", realm, ErrUnknownRealm)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tx, err := s.commitLocked(r, stage)
	if err != nil {
		return err
	}
	return s.followLocked(r, tx.writes)
}

func (s *Sim) commitLocked(r *realm, stage func(*tx) error) (*tx, error) {
	tx := &tx{sim: s, realm: r, at: s.clockLocked(r), steps: r.steps}
	if err := stage(tx); err != nil {
		return nil, err
	}
	pending := s.hooks.admit(tx.accompanied())
	e := entry{Realm: r.id, At: tx.at, Steps: tx.steps, Writes: tx.writes, Events: pending}
	if err := s.journal.append(e); err != nil {
		return nil, err
	}
	if err := s.applyLocked(r, e); err != nil {
		return nil, err
	}
	s.hooks.enqueue(pending)
	return tx, nil
}

// clockLocked is Intuit's time in a realm. It does not go back behind what was
// written: a change made after a CDC answer is never older than its time.
func (s *Sim) clockLocked(r *realm) time.Time {
	now := s.now().UTC().Truncate(time.Millisecond)
	if now.Before(r.last) {
		return r.last
	}
	return now
}

func (s *Sim) applyLocked(r *realm, e entry) error {
	for _, w := range e.Writes {
		info, ok := entity.Lookup(w.Entity)
		if !ok {
			return fmt.Errorf("%s %q: %w", r.id, w.Entity, ErrUnknownEntity)
		}
		r.applyLocked(info, e.At, w)
	}
	r.steps = e.Steps
	return nil
}

func (tx *tx) create(name string, given map[string]any) (Ref, error) {
	info, err := lookup(name)
	if err != nil {
		return Ref{}, err
	}
	id := tx.realm.tableLocked(info).nextID()
	if info.Name == "Preferences" && id != preferencesID {
		return Ref{}, fmt.Errorf("create %s: %w: a company has one", info.Name, ErrNotSupported)
	}
	f := tx.sampler("record", info.Name, id).record(info, id)
	if err := f.merge(given); err != nil {
		return Ref{}, err
	}
	if info.Name == exchangeRate {
		if id = f.rateKey(); tx.realm.tableLocked(info).records[id] != nil {
			return Ref{}, fmt.Errorf("%s %s is there already: %w", info.Name, id, ErrNotSupported)
		}
	}
	if err := tx.switchOn(info); err != nil {
		return Ref{}, err
	}
	if err := tx.put(info, id, nil, opCreate, f); err != nil {
		return Ref{}, err
	}
	tx.notify(info, id, opCreate, "")
	return Ref{Realm: tx.realm.id, Entity: info.Name, ID: id}, nil
}

func (tx *tx) update(ref Ref, given map[string]any) error {
	info, rec, f, err := tx.load(ref)
	if err != nil {
		return err
	}
	if len(given) == 0 {
		tx.sampler("change", info.Name, rec.id, rec.latest().SyncToken).change(info, f)
	} else if err := f.merge(given); err != nil {
		return err
	}
	tx.notify(info, rec.id, opUpdate, "")
	return tx.put(info, rec.id, rec, opUpdate, f)
}

func (tx *tx) remove(ref Ref) error {
	info, err := lookup(ref.Entity)
	if err != nil {
		return err
	}
	if info.List {
		return tx.deactivate(ref)
	}
	return tx.delete(ref)
}

func (tx *tx) delete(ref Ref) error {
	info, rec, _, err := tx.load(ref)
	if err != nil {
		return err
	}
	tx.notify(info, rec.id, opDelete, "")
	return tx.drop(info, rec, opDelete)
}

func (tx *tx) deactivate(ref Ref) error {
	info, rec, f, err := tx.load(ref)
	if err != nil {
		return err
	}
	if !hidesInactive(info) {
		return fmt.Errorf("deactivate %s: %w", info.Name, ErrNotSupported)
	}
	f.setActive(false)
	tx.notify(info, rec.id, opDelete, "")
	return tx.put(info, rec.id, rec, opDelete, f)
}

func (tx *tx) void(ref Ref) error {
	info, rec, f, err := tx.loadFor(ref, opVoid)
	if err != nil {
		return err
	}
	f.void()
	tx.notify(info, rec.id, opVoid, "")
	return tx.put(info, rec.id, rec, opVoid, f)
}

func (tx *tx) email(ref Ref) error {
	info, rec, f, err := tx.loadFor(ref, opEmailed)
	if err != nil {
		return err
	}
	f["EmailStatus"] = "EmailSent"
	f["DeliveryInfo"] = map[string]any{"DeliveryType": "Email", "DeliveryTime": tx.at.In(zones[0]).Format(time.RFC3339)}
	tx.notify(info, rec.id, opEmailed, "")
	return tx.put(info, rec.id, rec, opEmailed, f)
}

func (tx *tx) merge(survivor, merged Ref) error {
	if survivor == merged || survivor.Realm != merged.Realm || survivor.Entity != merged.Entity {
		return fmt.Errorf("merge %v into %v: %w: they must be two records of one list", merged, survivor, ErrNotSupported)
	}
	info, rec, f, err := tx.loadFor(survivor, opMerge)
	if err != nil {
		return err
	}
	_, gone, _, err := tx.load(merged)
	if err != nil {
		return err
	}
	tx.notify(info, rec.id, opMerge, gone.id)
	if err := tx.put(info, rec.id, rec, opMerge, f); err != nil {
		return err
	}
	return tx.drop(info, gone, opMerge)
}

// load reads a record to be changed, and moves the time of the change behind
// its last one: two writes of a record are at least a millisecond apart.
func (tx *tx) load(ref Ref) (entity.Info, *record, fields, error) {
	info, err := lookup(ref.Entity)
	if err != nil {
		return info, nil, nil, err
	}
	var rec *record
	if t := tx.realm.tables[info.Name]; t != nil {
		rec = t.records[ref.ID]
	}
	if rec == nil || rec.latest().Deleted {
		return info, nil, nil, fmt.Errorf("%s %s: %w", info.Name, ref.ID, ErrNotFound)
	}
	if last := rec.latest().at; !tx.at.After(last) {
		tx.at = last.Add(time.Millisecond)
	}
	f, err := parse(rec.latest().Raw)
	return info, rec, f, err
}

func (tx *tx) loadFor(ref Ref, operation string) (entity.Info, *record, fields, error) {
	info, rec, f, err := tx.load(ref)
	if err == nil && !slices.Contains(info.Operations, operation) {
		err = fmt.Errorf("%s of %s: %w", operation, info.Name, ErrNotSupported)
	}
	return info, rec, f, err
}

// put stages the record with the next SyncToken; rec is nil for a new one.
func (tx *tx) put(info entity.Info, id string, rec *record, operation string, f fields) error {
	syncToken := "0"
	if rec != nil {
		n, err := strconv.Atoi(rec.latest().SyncToken)
		if err != nil {
			return fmt.Errorf("sync token of %s %s: %w", info.Name, id, err)
		}
		syncToken = strconv.Itoa(n + 1)
	}
	updated := apiTime(tx.at, tx.sim.draw("zone", tx.realm.nth, info.Name, id, syncToken))
	created := updated
	if meta, ok := f["MetaData"].(map[string]any); ok {
		created, _ = meta["CreateTime"].(string)
	}
	raw, err := f.render(info.Name, id, syncToken, created, updated)
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, written{
		Entity: info.Name, ID: id, Operation: operation, SyncToken: syncToken, Inactive: hidesInactive(info) && f.inactive(), Raw: raw,
	})
	return nil
}

func (tx *tx) drop(info entity.Info, rec *record, operation string) error {
	raw, err := renderDeleted(rec.id, apiTime(tx.at, tx.sim.draw("zone", tx.realm.nth, info.Name, rec.id, "deleted")))
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, written{Entity: info.Name, ID: rec.id, Operation: operation, Deleted: true, Raw: raw})
	return nil
}

// notify makes the webhook event, where Intuit offers one for the operation.
func (tx *tx) notify(info entity.Info, id, operation, mergedID string) {
	if !slices.Contains(info.Operations, operation) {
		if operation != opDelete || !hidesInactive(info) || !slices.Contains(info.Operations, opUpdate) {
			return
		}
		operation = opUpdate // a list without Delete: becoming inactive is an update
	}
	var version int
	if rec := tx.realm.tableLocked(info).records[id]; rec != nil {
		version = len(rec.versions)
	}
	tx.events = append(tx.events, event{
		Realm: tx.realm.id, Nth: tx.realm.nth, Entity: info.Name, EntityID: id, Operation: operation, MergedID: mergedID, At: tx.at, Version: version,
	})
}

func (tx *tx) sampler(question string, about ...string) sampler {
	return sampler{Rand: tx.sim.draw(question, append([]string{tx.realm.nth}, about...)...), realm: tx.realm, custom: tx.sim.custom}
}

// hidesInactive reports whether a Query leaves out inactive records of the entity
// unless they are asked for. Budget is no name list, and does so all the same.
func hidesInactive(info entity.Info) bool { return info.List || info.Name == "Budget" }

func lookup(name string) (entity.Info, error) {
	info, ok := entity.Lookup(name)
	if !ok {
		return info, fmt.Errorf("%q: %w", name, ErrUnknownEntity)
	}
	return info, nil
}
