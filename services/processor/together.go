package processor

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// recentOverlap is how much longer ago than the first event CDC is asked for: an
// event's time and the record's may differ by a second or two. What is missed by it
// is read by Query, so more is not needed.
const recentOverlap = time.Minute

// readTogether asks CDC once for what changed of several entity types, in the place
// of a Query for each. It returns what is to be read by Query all the same: what CDC
// does not show, or everything if it cannot be asked or leaves custom fields out.
func (p *Processor) readTogether(ctx context.Context, client *qbo.Client, realm string, unclear map[string][]*item) map[string][]*item {
	names := slices.Sorted(maps.Keys(unclear))
	var all []*item
	for _, name := range names {
		all = append(all, unclear[name]...)
	}
	if !slices.ContainsFunc(all, func(it *item) bool { return it.tries() > 1 }) && p.cdcIsWhole(ctx, realm) {
		since := began(all, p.now()).Add(-recentOverlap)
		bound, cancel := context.WithTimeout(ctx, p.config.ReadTimeout)
		defer cancel()
		result, err := client.CDC(bound, realm, names, since)
		p.count.call("cdc", len(all), err)
		switch {
		case lasting(err):
			// Something else that changed is poison.
		case err != nil:
			fail(all, cause(err))
			return nil
		default:
			for _, name := range names {
				p.foundFields(ctx, realm, result.Entities[name], true)
			}
			return p.matchTogether(unclear, result)
		}
	}
	return unclear
}

func (p *Processor) matchTogether(unclear map[string][]*item, result qbo.CDCResult) map[string][]*item {
	left := map[string][]*item{}
	for name, items := range unclear {
		found := byID(result.Entities[name])
		for _, it := range items {
			// A record of a name list that CDC calls deleted may be there.
			if e, ok := found[it.ref.ID]; ok && (!e.Deleted || !it.info.List) {
				p.judge(it, e, result.Time)
				continue
			}
			left[name] = append(left[name], it)
		}
	}
	return left
}
