package qbosim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// derivedField is the field that follows from the records of others.
func derivedField(name string) (string, bool) {
	switch name {
	case "Customer", "Vendor":
		return "Balance", true
	case "Item":
		return "QtyOnHand", true
	case "Account":
		return "CurrentBalance", true
	}
	return "", false
}

// Derive moves the balance or quantity of a customer, vendor, item or account,
// as a transaction that refers to it does: LastUpdatedTime moves, SyncToken does
// not. A silent one moves neither. No webhook tells of it.
func (s *Sim) Derive(ref Ref, silent bool) error {
	return s.change(ref.Realm, func(tx *tx) error { return tx.derive(ref, silent, false) })
}

func (tx *tx) derive(ref Ref, silent, webhook bool) error {
	info, rec, f, err := tx.load(ref)
	if err != nil {
		return err
	}
	name, ok := derivedField(info.Name)
	if !ok {
		return fmt.Errorf("derive %s: %w", info.Name, ErrNotSupported)
	}
	last := rec.latest()
	move := 1 + tx.sim.draw("balance", tx.realm.nth, info.Name, rec.id, fmt.Sprint(last.Revision)).IntN(50_000)
	f[name] = moved(f[name], move)
	if webhook {
		tx.notify(info, rec.id, opUpdate, "")
	}
	at := tx.at
	if silent {
		at = last.LastUpdated
	}
	return tx.rewrite(info, rec, f, last.SyncToken, at, true)
}

// moved is an amount that differs from the one before.
func moved(old any, by int) money {
	var before float64
	if n, ok := old.(json.Number); ok {
		before, _ = n.Float64() // ours: always a number
	}
	return money(math.Round(before*100)) + money(by)
}

// rewrite stages a record whose LastUpdatedTime is not the time of the write.
func (tx *tx) rewrite(info entity.Info, rec *record, f fields, syncToken string, at time.Time, derived bool) error {
	last := rec.latest()
	meta, _ := f["MetaData"].(map[string]any)
	created, _ := meta["CreateTime"].(string)
	updated, _ := meta["LastUpdatedTime"].(string)
	if !at.Truncate(time.Second).Equal(last.LastUpdated) {
		updated = apiTime(at, tx.sim.draw("zone", tx.realm.nth, info.Name, rec.id, syncToken))
	}
	raw, err := f.render(info.Name, rec.id, syncToken, created, updated)
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, written{
		Entity: info.Name, ID: rec.id, Operation: opUpdate, SyncToken: syncToken, Inactive: last.Inactive, Raw: raw,
		Updated: at.Truncate(time.Second), Derived: derived,
	})
	return nil
}

// followLocked makes the changes that follow from one by the faults: of a balance
// elsewhere, and of the record itself by a server whose clock is behind.
func (s *Sim) followLocked(r *realm, writes []written) error {
	faults, w := s.faults.Load(), writes[0]
	if w.Derived {
		return nil
	}
	ref := Ref{Realm: r.id, Entity: w.Entity, ID: w.ID}
	// Every question is asked whatever the answers, see admit.
	rng := s.draw("derived", r.nth, w.Entity, w.ID, w.Operation, w.SyncToken)
	derived, silent, webhook := chance(rng, faults.Derived), chance(rng, faults.SilentDerived), chance(rng, 0.5)
	if target, ok := r.derivedLocked(rng, ref); derived && ok {
		if _, err := s.commitLocked(r, func(tx *tx) error { return tx.derive(target, silent, webhook) }); err != nil {
			return err
		}
	}
	rng = s.draw("backward", r.nth, w.Entity, w.ID, w.SyncToken)
	if !chance(rng, faults.BackwardTime) || w.Operation != opUpdate || w.Inactive || w.Deleted {
		return nil
	}
	_, err := s.commitLocked(r, func(tx *tx) error { return tx.backward(ref) })
	return err
}

// derivedLocked draws a record whose balance or quantity a transaction moves.
func (r *realm) derivedLocked(rng *rand.Rand, ref Ref) (Ref, bool) {
	info, err := lookup(ref.Entity)
	if err != nil || info.List || info.Name == "TimeActivity" {
		return Ref{}, false
	}
	versions := r.tables[info.Name].records[ref.ID].versions
	raw := versions[len(versions)-1].Raw
	if versions[len(versions)-1].Deleted && len(versions) > 1 {
		raw = versions[len(versions)-2].Raw
	}
	var txn struct {
		CustomerRef, VendorRef struct{ Value string }
		Line                   []struct {
			SalesItemLineDetail struct{ ItemRef struct{ Value string } }
		}
	}
	if err := json.Unmarshal(raw, &txn); err != nil {
		return Ref{}, false
	}
	named := []Ref{{Entity: "Customer", ID: txn.CustomerRef.Value}, {Entity: "Vendor", ID: txn.VendorRef.Value}}
	for _, line := range txn.Line {
		named = append(named, Ref{Entity: "Item", ID: line.SalesItemLineDetail.ItemRef.Value})
	}
	if t := r.tables["Account"]; t != nil && len(t.live) > 0 {
		named = append(named, Ref{Entity: "Account", ID: pick(rng, t.live).id})
	}
	var there []Ref
	for _, to := range named {
		t := r.tables[to.Entity]
		if t == nil || t.records[to.ID] == nil {
			continue
		}
		if last := t.records[to.ID].latest(); !last.Deleted && !last.Inactive {
			there = append(there, Ref{Realm: r.id, Entity: to.Entity, ID: to.ID})
		}
	}
	if len(there) == 0 {
		return Ref{}, false
	}
	return pick(rng, there), true
}

// backward updates a record as a server does whose clock is a second behind.
func (tx *tx) backward(ref Ref) error {
	info, rec, f, err := tx.load(ref)
	if err != nil {
		return err
	}
	last := rec.latest()
	n, err := strconv.Atoi(last.SyncToken)
	if err != nil {
		return fmt.Errorf("sync token of %s %s: %w", info.Name, rec.id, err)
	}
	tx.sampler("backward", info.Name, rec.id, last.SyncToken).change(info, f)
	at := last.LastUpdated.Add(-time.Second)
	tx.notify(info, rec.id, opUpdate, "")
	for i := range tx.events {
		tx.events[i].At = at
	}
	return tx.rewrite(info, rec, f, strconv.Itoa(n+1), at, false)
}
