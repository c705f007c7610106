package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	// refreshEvery is how often the records that transactions reference are read.
	refreshEvery = 24 * time.Hour
	// refreshAtOnce bounds the records of one entity type in a refresh: one answer.
	refreshAtOnce = maxRows
)

// refreshed are the entity types with derived fields (Balance, CurrentBalance,
// QtyOnHand) that a refresh reads, one Query each.
var refreshed = []string{"Account", "Customer", "Item", "Vendor"}

// references collects what a changed transaction moves derived fields of.
func (s *scan) references(f *finding, items []qbo.Entity) {
	if !s.r.config.RefreshReferenced || f.load || f.list {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		if item.Deleted || !item.LastUpdated.After(f.cursor) {
			continue
		}
		var document any
		if json.Unmarshal(item.Raw, &document) == nil {
			collect(document, s.referenced)
		}
	}
}

// collect adds the records that a document names in members such as CustomerRef.
func collect(value any, refs map[state.Ref]bool) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			collect(element, refs)
		}
	case map[string]any:
		for name, member := range v {
			if ref, ok := referenceOf(name, member); ok {
				refs[ref] = true
				continue
			}
			collect(member, refs)
		}
	}
}

func referenceOf(name string, member any) (ref state.Ref, ok bool) {
	kind, isRef := strings.CutSuffix(name, "Ref")
	fields, isObject := member.(map[string]any)
	if !isRef || !isObject {
		return ref, false
	}
	id, _ := fields["value"].(string)
	if kind == "Entity" { // of a line of a journal entry: a customer, vendor or employee
		kind, _ = fields["type"].(string)
	}
	for _, entity := range refreshed {
		if strings.HasSuffix(kind, entity) { // DepositToAccount is an account
			return state.Ref{Entity: entity, ID: id}, id != ""
		}
	}
	return ref, false
}

// refresh reads, once a day, the records that the transactions of the day reference, and
// publishes those whose documents differ from what was delivered. QuickBooks may move a
// balance without a webhook and without a new LastUpdatedTime.
func (s *scan) refresh(ctx context.Context) error {
	if !s.r.config.RefreshReferenced {
		return nil
	}
	if err := s.r.state.NoteReferenced(ctx, s.realm, s.referenced); err != nil {
		return err
	}
	refs, err := s.r.state.TakeReferenced(ctx, s.realm, refreshEvery)
	if err != nil || len(refs) == 0 {
		return err
	}
	byEntity := map[string][]string{}
	for _, ref := range refs {
		byEntity[ref.Entity] = append(byEntity[ref.Entity], ref.ID)
	}
	for _, name := range refreshed {
		ids := byEntity[name]
		if len(ids) == 0 {
			continue
		}
		slices.Sort(ids)
		if over := len(ids) - refreshAtOnce; over > 0 {
			s.log.Info("referenced records deferred to the next day", telemetry.Entity(name), telemetry.Count(over))
			later := map[state.Ref]bool{}
			for _, id := range ids[refreshAtOnce:] {
				later[state.Ref{Entity: name, ID: id}] = true
			}
			if err := s.r.state.NoteReferenced(ctx, s.realm, later); err != nil {
				return err
			}
			ids = ids[:refreshAtOnce]
		}
		err := s.refreshEntity(ctx, name, ids)
		if causeOf(ctx, err) != causeNone {
			s.log.Warn("referenced records refused by quickbooks", telemetry.Entity(name), telemetry.Error(err))
			continue
		}
		if err != nil {
			return fmt.Errorf("refresh %s: %w", name, err)
		}
	}
	return nil
}

func (s *scan) refreshEntity(ctx context.Context, name string, ids []string) error {
	res, err := s.callQuery(ctx, statement{entity: name, list: listed(name), ids: ids, rows: maxRows}.String())
	if err != nil {
		return err
	}
	// A finding of its own: what it lacks holds back no cursor, as scans find it too.
	f := newFinding(task{entity: name, list: listed(name)})
	events, err := s.compareAll(ctx, f, res.Entities)
	if err != nil {
		return err
	}
	return s.publish(ctx, ledgerfeedv1.Source_SOURCE_QUERY, events)
}
