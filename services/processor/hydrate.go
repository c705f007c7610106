package processor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// budgetDelay: a person may raise the budget, or the month end.
const budgetDelay = 10 * time.Minute

// hydrate finds out what to deliver of each item: mostly by one call for all.
func (p *Processor) hydrate(ctx context.Context, b *batch) error {
	unclear := map[string][]*item{} // by entity type
	for _, it := range b.items {
		if u := it.last(it.confirmed); u != nil && it.last((*unit).restored) == nil {
			it.bury(deletion{at: u.when(), confirmed: true})
			continue
		}
		if p.eventOnly.has(b.realm, it.ref.Entity) && it.last(it.removes) == nil {
			it.announce(p.now())
			continue
		}
		unclear[it.info.Name] = append(unclear[it.info.Name], it)
	}
	priority := qbo.Backfill
	if b.live() {
		priority = qbo.Live
	}
	client := p.client.With(priority)
	if len(unclear) > 1 {
		unclear = p.readTogether(ctx, client, b.realm, unclear)
	}
	for _, name := range slices.Sorted(maps.Keys(unclear)) {
		items := unclear[name]
		r := &reader{p: p, client: client, realm: b.realm, info: *items[0].info, known: items[0].known}
		// The name ends in a statement and comes from a body: Intuit's own, but of
		// any content.
		if !r.known && !plainName.MatchString(name) {
			fail(items, stream.Permanent(stream.ReasonUnknownEntity, errors.New("entity name is missing")))
			continue
		}
		if !r.known {
			if err := p.unknown.try(b.realm, name, p.now()); err != nil {
				fail(items, stream.Permanent(stream.ReasonUnknownEntity, err))
				continue
			}
		}
		r.readAll(ctx, items)
		r.endRefusals(ctx)
		r.explain(ctx)
	}
	return p.recallMerges(ctx, b)
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)

// reader asks the API about the items of one entity type.
type reader struct {
	p      *Processor
	client *qbo.Client
	realm  string
	info   entity.Info
	known  bool
	absent []*item     // the API does not know them
	over   []state.Ref // records that are not refused any more
	at     time.Time   // of the last answer, by Intuit's clock

	// See refusal.go.
	divisions int              // of batches that failed
	singles   int              // records that were read one by one from the start
	counts    map[string]error // entities that were asked for a count, and the outcome
}

// read asks for items at once and, where that fails because of some of them,
// for fewer.
func (r *reader) read(ctx context.Context, items []*item) {
	result, err := r.query(ctx, items)
	switch {
	case err == nil && len(items) > 1 && len(result.Entities) >= qbo.MaxObjects:
		// Cut off: what is absent may be behind the end.
		half := len(items) / 2
		r.read(ctx, items[:half])
		r.read(ctx, items[half:])
	case err == nil:
		r.p.foundFields(ctx, r.realm, result.Entities, false)
		if !r.known {
			r.p.unknown.accept(r.realm, r.info.Name)
		}
		r.match(items, result)
	case sabotage.On(sabotage.FailedReadIsEvidence):
		r.absent = append(r.absent, items...)
	case errors.Is(err, qbo.ErrUnknownEntity):
		r.unknownName(items, err)
	case !r.divide(ctx, items, err):
		r.refused(ctx, items, err)
	case len(items) == 1:
		r.readOne(ctx, items[0], err)
	default:
		half := len(items) / 2
		r.read(ctx, items[:half])
		r.read(ctx, items[half:])
	}
}

func (r *reader) query(ctx context.Context, items []*item) (qbo.QueryResult, error) {
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.ref.ID
	}
	statement := fmt.Sprintf("SELECT * FROM %s WHERE %s", r.info.Name, qbo.WithIDs(r.info.Name, ids))
	if r.info.List {
		// Without this a Query leaves out what was made inactive, which is not gone.
		statement += " AND Active IN (true, false)"
	}
	rows := len(items)
	if r.info.Lasting {
		rows = qbo.MaxObjects // its condition may match more records than were named
	}
	statement += fmt.Sprintf(" MAXRESULTS %d", rows)
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	result, err := r.client.Query(ctx, r.realm, statement)
	r.p.count.call("query", len(items), err)
	return result, err
}

func (r *reader) match(items []*item, result qbo.QueryResult) {
	r.at = result.Time
	found := byID(result.Entities)
	for _, it := range items {
		if e, ok := found[it.ref.ID]; ok {
			r.notRefused(it)
			r.p.judge(it, e, result.Time)
			continue
		}
		r.absent = append(r.absent, it)
	}
}

// readOne asks by id for what the Query failed on.
func (r *reader) readOne(ctx context.Context, it *item, queried error) {
	if id := it.ref.ID; id == "." || id == ".." {
		// Such a path would lead elsewhere.
		fail([]*item{it}, stream.Permanent(stream.ReasonRefused, queried))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	e, at, err := r.client.Read(ctx, r.realm, r.info.Name, it.ref.ID)
	r.p.count.call("read", 1, err)
	switch {
	case err == nil:
		r.notRefused(it)
		r.p.foundFields(ctx, r.realm, []qbo.Entity{e}, false)
		r.p.judge(it, e, at)
	case errors.Is(err, qbo.ErrNotFound):
		r.absent = append(r.absent, it)
	case errors.Is(err, qbo.ErrPoison), errors.Is(queried, qbo.ErrPoison) && lasting(err):
		r.confirm(it, qbo.MeaningPoison, stream.ReasonPoison, err)
	case errors.Is(err, qbo.ErrTooLarge):
		r.confirm(it, qbo.MeaningRequest, stream.ReasonRefused, err)
	case errors.Is(err, qbo.ErrServer) && r.answers() && it.tries() >= r.p.poisonAfter:
		fail([]*item{it}, stream.Permanent(stream.ReasonPoison, err))
	default:
		r.refused(ctx, []*item{it}, err)
	}
}

// cause says what becomes of items that could not be read, this time.
func cause(err error) error {
	var f *qbo.Fault
	var token *qbo.OAuthError
	if delay, ok := connection.RetryAfter(err); ok {
		return stream.RetryAfter(err, delay)
	}
	switch {
	case errors.Is(err, state.ErrBudget):
		return stream.RetryAfter(err, budgetDelay)
	case errors.Is(err, connection.ErrReauthRequired), errors.Is(err, connection.ErrParked):
		return errParked
	case errors.Is(err, connection.ErrNotConnected):
		return stream.RetryAfter(err, recheckDelay) // since a moment ago; see admit
	case errors.Is(err, connection.ErrSealed):
		return err // until somebody brings the key
	case errors.As(err, &token):
		return err
	case errors.As(err, &f):
		if f.RetryAfter > 0 {
			return stream.RetryAfter(err, f.RetryAfter)
		}
	case !qbo.Temporary(err) && !errors.Is(err, qbo.ErrTooLarge) && !errors.Is(err, context.Canceled):
		return paused(err) // the limiter's or the tokens' Redis
	}
	return err
}

// fail gives every unit of the items its outcome.
func fail(items []*item, err error) {
	for _, it := range items {
		for _, u := range it.open() {
			u.err = err
		}
	}
}
