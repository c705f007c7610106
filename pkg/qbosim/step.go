package qbosim

import (
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// weighted is a choice by weight, in percent.
type weighted struct {
	name   string
	weight int
}

var (
	stepEntities = [...]weighted{
		{"Customer", 14}, {"Vendor", 6}, {"Item", 8}, {"Invoice", 32},
		{"Payment", 14}, {"Bill", 8}, {"JournalEntry", 8}, {"TimeActivity", 10},
	}
	stepOperations = [...]weighted{
		{opCreate, 42}, {opUpdate, 43}, {opDelete, 5}, {opVoid, 4}, {opEmailed, 4}, {opMerge, 2},
	}
)

// Step makes one change of the realm. The n-th Step of a realm makes the same
// change in every run with the same seed and the same changes before it.
func (s *Sim) Step(realm string) (Ref, error) {
	var ref Ref
	err := s.change(realm, func(tx *tx) (err error) {
		tx.steps++
		ref, err = tx.step()
		return err
	})
	return ref, err
}

func (tx *tx) step() (Ref, error) {
	s := tx.sampler("step", count(tx.steps))
	name := choose(s, stepEntities[:])
	operation := choose(s, stepOperations[:])
	info, err := lookup(name)
	if err != nil {
		return Ref{}, err
	}
	if name, missing := tx.prerequisite(info.Name); missing {
		return tx.create(name, nil)
	}
	t := tx.realm.tableLocked(info)
	if len(t.live) == 0 || operation == opCreate {
		return tx.create(info.Name, nil)
	}
	rec := pick(s.Rand, t.live)
	ref := Ref{Realm: tx.realm.id, Entity: info.Name, ID: rec.id}
	other := Ref{Realm: tx.realm.id, Entity: info.Name, ID: pick(s.Rand, t.live).id}
	switch {
	case rec.latest().Inactive:
		return ref, tx.update(ref, nil) // active again
	case operation == opDelete:
		return ref, tx.remove(ref)
	case operation == opVoid && slices.Contains(info.Operations, opVoid):
		return ref, tx.void(ref)
	case operation == opEmailed && slices.Contains(info.Operations, opEmailed):
		return ref, tx.email(ref)
	case operation == opMerge && slices.Contains(info.Operations, opMerge) && other != ref:
		return ref, tx.merge(ref, other)
	}
	return ref, tx.update(ref, nil)
}

// StepOther makes one change of an entity that Step leaves alone: most of these send no
// webhooks, or are hardly ever written. It is drawn as Step is.
func (s *Sim) StepOther(realm string) (Ref, error) {
	var ref Ref
	err := s.change(realm, func(tx *tx) (err error) {
		tx.steps++
		ref, err = tx.stepOther()
		return err
	})
	return ref, err
}

func (tx *tx) stepOther() (Ref, error) {
	s := tx.sampler("step other", count(tx.steps))
	names := slices.DeleteFunc(entity.Queryable(), func(name string) bool {
		return slices.ContainsFunc(stepEntities[:], func(w weighted) bool { return w.name == name })
	})
	info, err := lookup(pick(s.Rand, names))
	if err != nil {
		return Ref{}, err
	}
	operation := choose(s, stepOperations[:])
	if name, missing := tx.prerequisite(info.Name); missing {
		return tx.create(name, nil)
	}
	t := tx.realm.tableLocked(info)
	single := info.Name == "CompanyInfo" || info.Name == "Preferences"
	if len(t.live) == 0 || operation == opCreate && !single {
		return tx.create(info.Name, nil)
	}
	ref := Ref{Realm: tx.realm.id, Entity: info.Name, ID: pick(s.Rand, t.live).id}
	if operation == opDelete && !single && !info.Lasting {
		return ref, tx.remove(ref)
	}
	return ref, tx.update(ref, nil)
}

// prerequisite is what must be there first: an invoice needs a customer and an
// item.
func (tx *tx) prerequisite(name string) (missing string, ok bool) {
	var needs []string
	switch name {
	case "Invoice":
		needs = []string{"Customer", "Item"}
	case "ChangeOrder":
		needs = []string{"Estimate"}
	case "Payment":
		needs = []string{"Customer"}
	case "Bill":
		needs = []string{"Vendor"}
	case "TimeActivity":
		needs = []string{"Vendor", "Customer", "Item"}
	}
	for _, need := range needs {
		if t := tx.realm.tables[need]; t == nil || len(t.live) == 0 {
			return need, true
		}
	}
	return "", false
}

func choose(s sampler, from []weighted) string {
	n := s.IntN(100)
	for _, w := range from {
		if n < w.weight {
			return w.name
		}
		n -= w.weight
	}
	return from[0].name
}
