package reconciler

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// foundFields notes what a Query shows of custom fields: a record that has more than CDC
// may show. If that is not recorded, the next record tells.
func (s *scan) foundFields(ctx context.Context, items []qbo.Entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fields.Enhanced || !slices.ContainsFunc(items, enhanced) {
		return
	}
	if err := s.r.state.NoteEnhancedFields(ctx, s.realm); err != nil {
		s.log.Debug("custom fields not recorded", telemetry.Error(err))
		return
	}
	s.fields.Enhanced = true
}

func enhanced(e qbo.Entity) bool { return qbo.HasEnhancedFields(e.Raw) }

// probeFields finds out whether CDC shows all custom fields of a realm: by its answer, if
// that holds one that is left out elsewhere; else by a Query for some of the records of
// it, at first and once in reconciler.query_interval while no record is known to have such
// a field.
func (s *scan) probeFields(ctx context.Context, fs []*finding, res qbo.CDCResult) error {
	if s.fields.CDC {
		return nil
	}
	for _, f := range fs {
		if !slices.ContainsFunc(res.Entities[f.entity], func(e qbo.Entity) bool { return qbo.ShowsAllFields(e.Raw) }) {
			continue
		}
		if err := s.r.state.NoteCDCFields(ctx, s.realm); err != nil {
			return err
		}
		s.fields.Enhanced, s.fields.CDC = true, true
		return nil
	}
	if s.fields.Enhanced || s.r.now().Sub(s.fields.Probed) < s.r.config.queryInterval() {
		return nil
	}
	f, ids := probed(fs, res)
	if f == nil {
		return nil
	}
	shown, err := s.callQuery(ctx, statement{entity: f.entity, list: f.list, ids: ids, rows: maxRows}.String())
	if err != nil {
		// The next scan probes.
		s.log.Debug("custom fields not probed", telemetry.Entity(f.entity), telemetry.Error(err))
		if fatal(ctx, err) {
			return err
		}
		return nil
	}
	s.mu.Lock()
	s.extra++ // a count waits for it
	s.mu.Unlock()
	if s.foundFields(ctx, shown.Entities); s.fields.Enhanced {
		s.log.Info("cdc omits custom fields; reading documents by query", telemetry.Entity(f.entity))
		return nil
	}
	s.fields.Probed = s.r.now()
	return s.r.state.NoteFieldsProbed(ctx, s.realm, s.fields.Probed)
}

// probed are the records to ask Query for: those of the entity with the most, and first
// of one whose documents name custom fields at all.
func probed(fs []*finding, res qbo.CDCResult) (entity *finding, ids []string) {
	most, named := 0, false
	for _, f := range fs {
		var alive []string
		custom := false
		for _, e := range res.Entities[f.entity] {
			if !e.Deleted && len(alive) < maxIDs {
				alive = append(alive, e.ID)
				custom = custom || bytes.Contains(e.Raw, []byte(`"CustomField"`))
			}
		}
		if n := len(alive); n > 0 && (custom && !named || custom == named && n > most) {
			entity, ids, most, named = f, alive, n, custom
		}
	}
	return entity, ids
}

// compareCDC compares an answer of CDC, whose documents may lack custom fields.
func (s *scan) compareCDC(ctx context.Context, f *finding, res qbo.CDCResult) ([]*ledgerfeedv1.Event, error) {
	f.cut = !s.fields.Whole()
	defer func() { f.cut = false }()
	return s.compare(ctx, f, f.wanted(res), res.Time)
}

// recheck asks Query for records whose document differs from what a sink was given at
// that version: where CDC leaves custom fields out, each that has some differs. It
// replaces the documents of items and returns which of them differ.
func (s *scan) recheck(ctx context.Context, f *finding, items []qbo.Entity, want []state.Missing, differs []bool) ([]bool, error) {
	at := map[string]int{}
	var ids []string
	for i := range items {
		if differs[i] {
			at[items[i].ID] = i
			ids = append(ids, items[i].ID)
		}
	}
	after := make([]bool, len(differs))
	for part := range slices.Chunk(ids, maxIDs) {
		res, err := s.callQuery(ctx, statement{entity: f.entity, list: f.list, ids: part, rows: maxRows}.String())
		if err != nil && (poisoned(ctx, err) || tooLarge(err)) {
			continue // a later scan looks at them
		}
		if err != nil {
			return nil, err
		}
		var shown []qbo.Entity
		var wanted []state.Missing
		for _, e := range res.Entities {
			if i, ok := at[e.ID]; ok && e.Version() == items[i].Version() {
				shown, wanted = append(shown, e), append(wanted, want[i])
			}
		}
		_, really, _, err := s.r.differences(ctx, s.realm, s.sinks, wanted, shown)
		if err != nil {
			return nil, err
		}
		for j, e := range shown {
			i := at[e.ID]
			items[i], after[i] = e, really[j]
		}
	}
	return after, nil
}

// repairFields has an entity read by Query whose documents CDC has shown without their
// custom fields.
func (s *scan) repairFields(t *task) {
	if s.fields.Repair.IsZero() || s.fields.Whole() || t.load || t.changedSince.IsZero() {
		return
	}
	t.query = true
	if since := s.fields.Repair.Add(-overlap).Truncate(time.Second); since.Before(t.since) {
		t.since = since
	}
}

// keepFields records what a whole scan without an error says of the custom fields.
func (s *scan) keepFields(ctx context.Context, o order, failed bool) error {
	if failed || o.entities != nil || len(s.incomplete) > 0 {
		return nil
	}
	loaded := slices.ContainsFunc(s.findings, func(f *finding) bool { return f.load })
	switch {
	case !s.fields.Repair.IsZero():
		return s.r.state.EndFieldsRepair(ctx, s.realm)
	case !s.fields.Enhanced && s.fields.Probed.IsZero() && loaded:
		return s.r.state.NoteFieldsProbed(ctx, s.realm, s.r.now()) // all was read by Query
	}
	return nil
}
