package reconciler

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// A first load asks for all entities, which is a call each. What the company says of
// itself and the records it has prove that it cannot use some: those are counted in the
// days that follow, and loaded at once if there are any after all.

// evidence is what a first load has read so far. Where something was not read as a whole,
// or QuickBooks did not say it, it proves nothing.
type evidence struct {
	features  qbo.Features
	country   string
	records   map[string]int // by entity
	inventory bool           // some item is of inventory
}

// proof says what a company cannot use.
type proof struct {
	from   []string // must have been read as a whole
	unused []string
	holds  func(e evidence) bool
}

var proofs = []proof{
	// Multi-currency can be switched on, but never off.
	{[]string{preferences}, []string{"CompanyCurrency", "Currency", "ExchangeRate"}, func(e evidence) bool {
		return e.features.MultiCurrency == qbo.Off
	}},
	// Journal codes exist in France only.
	{[]string{companyInfo}, []string{"JournalCode"}, func(e evidence) bool {
		return e.country != "" && e.country != "FR" && e.country != "FRA" && e.country != "France"
	}},
	// Preferences can be switched off when records are there, so that records count too.
	{[]string{preferences, "Item"}, []string{"InventoryAdjustment"}, func(e evidence) bool {
		return e.features.Inventory == qbo.Off && !e.inventory
	}},
	// A rate belongs to an agency, and an agency is never deleted.
	{[]string{preferences, "TaxAgency"}, []string{"TaxPayment", "TaxRate"}, func(e evidence) bool {
		return e.features.SalesTax == qbo.Off && e.records["TaxAgency"] == 0
	}},
	// A change order changes an estimate.
	{[]string{preferences, "Estimate"}, []string{"ChangeOrder"}, func(e evidence) bool {
		return e.records[preferences] > 0 && e.records["Estimate"] == 0
	}},
}

// proves reports whether an entity is among those that proofs are made from.
func proves(name string) bool {
	return slices.ContainsFunc(proofs, func(p proof) bool { return slices.Contains(p.from, name) })
}

// gather adds records to the evidence.
func (s *scan) gather(items []qbo.Entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.evidence.records == nil {
		return // not a first load
	}
	for _, item := range items {
		if item.Deleted {
			continue
		}
		s.evidence.records[item.Name]++
		// What cannot be parsed proves nothing.
		switch item.Name {
		case preferences:
			s.evidence.features, _ = qbo.ParseFeatures(item.Raw)
		case companyInfo:
			info, _ := qbo.ParseCompanyInfo(item.Raw)
			s.evidence.country = info.Country
		case "Item":
			s.evidence.inventory = s.evidence.inventory || qbo.MayBeInventory(item.Raw)
		}
	}
}

// loadFirst reads what proofs are made from, and then what is not proved to be unused.
func (s *scan) loadFirst(ctx context.Context, fs []*finding) error {
	proving, others := []*finding{}, []*finding{}
	for _, f := range fs {
		if proves(f.entity) {
			proving = append(proving, f)
		} else {
			others = append(others, f)
		}
	}
	first := s.queries(ctx, proving)
	if first != nil && fatal(ctx, first) {
		return first
	}
	others, err := s.leaveUnused(ctx, others)
	if err != nil {
		return err
	}
	return errors.Join(first, s.queries(ctx, others))
}

// leaveUnused leaves entities that the company cannot use to the days that follow, and
// returns the others.
func (s *scan) leaveUnused(ctx context.Context, fs []*finding) ([]*finding, error) {
	unused := s.proved()
	left := map[string]state.EntityUse{}
	now := s.intuits()
	rest := slices.DeleteFunc(slices.Clone(fs), func(f *finding) bool {
		if !unused[f.entity] || s.uses(f.entity) || !slices.Contains(s.r.config.QueryEntities, f.entity) {
			return false
		}
		left[f.entity] = state.EntityUse{Counted: now}
		f.unused = true
		return true
	})
	if len(left) == 0 {
		return fs, nil
	}
	if err := s.r.state.SetEntityUse(ctx, s.realm, left); err != nil {
		return nil, err
	}
	for _, f := range fs {
		if f.unused {
			s.log.Info("entity not in use; counts will confirm it", telemetry.Entity(f.entity))
			s.ended(f)
		}
	}
	return rest, nil
}

// proved are the entities that the evidence proves to be unused.
func (s *scan) proved() map[string]bool {
	unused := map[string]bool{}
	for _, p := range proofs {
		whole := !slices.ContainsFunc(p.from, func(name string) bool { return !s.hasRead(name) })
		s.mu.Lock()
		holds := p.holds(s.evidence)
		s.mu.Unlock()
		for _, name := range p.unused {
			unused[name] = unused[name] || whole && holds
		}
	}
	return unused
}

// hasRead reports whether this scan has read an entity from its first record to its last,
// inactive ones included.
func (s *scan) hasRead(name string) bool {
	return slices.ContainsFunc(s.findings, func(f *finding) bool {
		return f.entity == name && f.whole && f.list == listed(name)
	})
}

// isLeft reports whether a first load has left the entity to be counted, and nothing
// else was asked since.
func (s *scan) isLeft(name string) bool {
	u := s.use[name]
	return s.cursors[name].IsZero() && !s.uses(name) && !u.Counted.IsZero()
}

// beginFirst prepares a first load. Where no sink has a record that CDC covers and no webhook
// has come, the realm is new: there are no deletions to tell, and CDC is not asked. A job that goes on after a failure does not
// read again what it has loaded.
func (s *scan) beginFirst(ctx context.Context, o order, x occasion, conn connection.Connection) error {
	if !o.first {
		return nil
	}
	s.evidence.records = map[string]int{}
	s.valid = slices.MaxFunc([]time.Time{o.begun, x.since, conn.ChangedAt}, time.Time.Compare)
	delivered, err := s.r.state.Delivered(ctx, s.realm, s.sinks, s.r.config.CDCEntities)
	if err != nil || len(delivered) > 0 {
		return err
	}
	webhooks, err := s.r.state.Freshness(ctx, s.realm)
	s.untold = err == nil && len(webhooks) == 0
	return err
}

// hasLoaded reports whether an earlier try of the same job has read the entity, and no
// outage of ours or another authorisation came after.
func (s *scan) hasLoaded(o order, name string) bool {
	cursor := s.cursors[name]
	return o.first && !cursor.IsZero() && !cursor.Add(margin).Before(s.valid.Truncate(time.Second))
}

// leaves reports whether the scan, too, leaves the entity to be counted. One that covers
// everything does so only where an earlier try of the same job has left it.
func (s *scan) leaves(o order, name string) bool {
	if o.first {
		return !s.use[name].Counted.Add(margin).Before(s.valid.Truncate(time.Second))
	}
	return !o.everything && !o.load
}
