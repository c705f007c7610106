package processor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// filter is which changes a sink is given; an empty field stands for all.
type filter struct {
	realms, entities, operations map[string]bool
}

// parseFilters reads entries of the form NAME realm=R|R entity=E|E operation=O|O,
// each field at most once, at least one.
func parseFilters(entries []string) (map[string]filter, error) {
	filters := map[string]filter{}
	var errs []error
	for i, entry := range entries {
		name, f, err := parseFilter(entry)
		if _, twice := filters[name]; err == nil && twice {
			err = fmt.Errorf("duplicate filter for sink %q", name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("processor.sink_filters, entry %d: %w", i+1, err))
			continue
		}
		filters[name] = f
	}
	return filters, errors.Join(errs...)
}

func parseFilter(entry string) (name string, f filter, err error) {
	fields := strings.Fields(entry)
	if len(fields) < 2 {
		return "", f, errors.New("want NAME realm=R|R entity=E|E operation=O|O, at least one of the three")
	}
	for _, field := range fields[1:] {
		key, list, _ := strings.Cut(field, "=")
		values := map[string]bool{}
		for _, v := range strings.Split(list, "|") {
			if v == "" {
				return "", f, fmt.Errorf("%s: an empty value", key)
			}
			values[v] = true
		}
		into := map[string]*map[string]bool{"realm": &f.realms, "entity": &f.entities, "operation": &f.operations}[key]
		switch {
		case into == nil:
			return "", f, fmt.Errorf("%q: want realm=, entity= or operation=", key)
		case *into != nil:
			return "", f, fmt.Errorf("%s= is given twice", key)
		}
		*into = values
	}
	if f.entities, err = canonical(f.entities); err != nil {
		return "", f, err
	}
	for o := range f.operations {
		if _, ok := ledgerfeedv1.Operation_value["OPERATION_"+strings.ToUpper(o)]; !ok || o != strings.ToLower(o) || o == "unspecified" {
			return "", f, fmt.Errorf("operation %q: want create, update, delete, merge, void or emailed", o)
		}
	}
	return fields[0], f, nil
}

// canonical spells entities as the API does. A name that the table does not hold is
// more likely a slip than an entity of tomorrow, and would filter everything out.
func canonical(names map[string]bool) (map[string]bool, error) {
	if names == nil {
		return nil, nil
	}
	spelt := map[string]bool{}
	for name := range names {
		if _, known := entity.Lookup(name); !known {
			return nil, fmt.Errorf("entity %q is not known", name)
		}
		spelt[entity.Canonical(name)] = true
	}
	return spelt, nil
}

func allows(set map[string]bool, value string) bool { return set == nil || set[value] }

// reads reports whether changes of an entity are looked at at all.
func (f filter) reads(realm, entity string) bool {
	return allows(f.realms, realm) && allows(f.entities, entity)
}

// wants reports whether one of the item's events is of the operations. What a scan
// found may have been any but a deletion, and what Intuit calls by a new name too:
// in doubt the sink is given it.
func (f filter) wants(it *item) bool {
	if f.operations == nil {
		return true
	}
	for _, u := range it.open() {
		o := u.operation
		unclear := o == ledgerfeedv1.Operation_OPERATION_UNSPECIFIED || !u.webhook() && o != ledgerfeedv1.Operation_OPERATION_DELETE
		if unclear || f.operations[sink.Operation(o)] {
			return true
		}
	}
	return false
}

// sift takes out the sinks that do not want an entity, without a read, and notes
// those that do not want an operation: what is read is not written to them. Both are
// marked as if they had it, or a scan would call it missing.
func (p *Processor) sift(ctx context.Context, b *batch) error {
	for s, out := range p.outputs {
		var unread []state.Advance
		for _, it := range b.items {
			switch {
			case !it.lacking.has(s):
			case !out.filter.reads(b.realm, it.ref.Entity):
				unread = append(unread, it.decline(s, p.now()))
			case !out.filter.wants(it):
				it.unwanted = it.unwanted.with(s)
				p.count.filtered(out.Name())
			}
		}
		if len(unread) == 0 {
			continue
		}
		if err := p.state.Advance(ctx, b.realm, out.Name(), unread); err != nil {
			return paused(err)
		}
		for range unread {
			p.count.filtered(out.Name())
		}
	}
	b.keep(func(it *item) bool { return it.lacking != 0 })
	return nil
}

// decline takes sink s out of the item and returns the mark for it. The version is
// not known without a read: it is the last that a write of the event's second can
// have, and never one that is yet to come.
func (it *item) decline(s int, now time.Time) state.Advance {
	version := int64(0)
	for _, u := range it.units {
		if !u.sinks.has(s) {
			continue
		}
		u.sinks = u.sinks.without(s)
		if version = max(version, u.version); u.version == 0 && !u.replay() {
			version = max(version, qbo.TombstoneVersion(minTime(u.when(), now))-1)
		}
	}
	it.lacking = it.lacking.without(s)
	return state.Advance{Ref: it.ref, Version: version}
}

// declined reports whether a mark may be one that decline made in place of a
// version: a sink that has lost its filter can have that by a replay.
func declined(mark, version int64) bool {
	return qbo.IsTombstone(mark+1) && mark/versionsPerSecond == version/versionsPerSecond
}
