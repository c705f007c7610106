package qbosim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Unselected is an event type that is not ticked in the portal: its changes make no
// webhooks.
type Unselected struct {
	// Entity is as the API spells it, Operation as the legacy webhooks do ("Update").
	Entity, Operation string
	// After counts from the start of the load ([Sim.BeginLoad]): until then the type
	// is selected. 0 is from now on.
	After time.Duration
}

// spellings are the operations as the portal and the two webhook formats write them.
var spellings = map[string]string{
	"create": opCreate, "created": opCreate, "update": opUpdate, "updated": opUpdate, "delete": opDelete, "deleted": opDelete,
	"merge": opMerge, "merged": opMerge, "void": opVoid, "voided": opVoid, "email": opEmailed, "emailed": opEmailed,
}

// UnmarshalText reads ENTITY.OPERATION[@AFTER], such as "invoice.update@10s".
func (u *Unselected) UnmarshalText(text []byte) error {
	eventType, after, late := strings.Cut(string(text), "@")
	name, operation, _ := strings.Cut(eventType, ".")
	info, known := entity.Lookup(name)
	if !known || len(info.Operations) == 0 {
		return fmt.Errorf("event type %q: QuickBooks offers no webhooks for %q; use ENTITY.OPERATION, such as invoice.update", text, name)
	}
	op := spellings[strings.ToLower(operation)]
	if !slices.Contains(info.Operations, op) {
		return fmt.Errorf("event type %q: for %s QuickBooks offers %s", text, info.Name, strings.ToLower(strings.Join(info.Operations, ", ")))
	}
	*u = Unselected{Entity: info.Name, Operation: op}
	if !late {
		return nil
	}
	d, err := time.ParseDuration(after)
	if err != nil || d < 0 {
		return fmt.Errorf("event type %q: after @ give a duration from the start, such as 10s", text)
	}
	u.After = d
	return nil
}

// String is the form that UnmarshalText reads.
func (u Unselected) String() string {
	text := strings.ToLower(u.Entity + "." + u.Operation)
	if u.After > 0 {
		text += "@" + u.After.String()
	}
	return text
}

// MarshalText is the form that UnmarshalText reads.
func (u Unselected) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// SetUnselected replaces the event types that are not selected, for the changes that
// follow. Every type is selected unless it is named here.
func (s *Sim) SetUnselected(all []Unselected) {
	all = slices.Clone(all)
	s.unselected.Store(&all)
}

// Unselected are the event types that are not selected, or will not be.
func (s *Sim) Unselected() []Unselected {
	if all := s.unselected.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

// selected reports whether the app hears of the event.
func (s *Sim) selected(e event) bool {
	all := s.unselected.Load()
	if all == nil {
		return true
	}
	into := s.now().Sub(*s.load.Load())
	return !slices.ContainsFunc(*all, func(u Unselected) bool {
		return u.Entity == e.Entity && u.Operation == e.Operation && (u.After == 0 || into >= u.After)
	})
}

// subscriptionJSON is what the control API takes and shows.
type subscriptionJSON struct {
	Unselected []Unselected `json:"unselected"`
}

func (s *Sim) subscriptions() subscriptionJSON {
	all := s.Unselected()
	if all == nil {
		all = []Unselected{}
	}
	return subscriptionJSON{all}
}
