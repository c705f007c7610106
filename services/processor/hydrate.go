package processor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	// A batch that Intuit's server fails on so often is taken apart: one record
	// may be the cause.
	suspectAfter = 4
	// A record that the server fails on so often, and on no other, is poison
	// although no code says so. That is after some half an hour.
	poisonAfter = 12
	// A company that refuses us so often, some hour, will not have us.
	forbiddenAfter = 20
	// budgetDelay: a person may raise the budget, or the month end.
	budgetDelay = 10 * time.Minute
)

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
		r := &reader{p: p, client: client, realm: b.realm, info: items[0].info, known: items[0].known}
		// The name ends in a statement and comes from a body: Intuit's own, but of
		// any content.
		if !r.known && !plainName.MatchString(name) {
			fail(items, stream.Permanent(stream.ReasonUnknownEntity, errors.New("no name of an entity")))
			continue
		}
		if !r.known {
			if err := p.unknown.try(b.realm, name, p.now()); err != nil {
				fail(items, stream.Permanent(stream.ReasonUnknownEntity, err))
				continue
			}
		}
		r.read(ctx, items)
		r.explain(ctx)
	}
	return p.recallMerges(ctx, b)
}

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)

// reader asks the API about the items of one entity type.
type reader struct {
	p       *Processor
	client  *qbo.Client
	realm   string
	info    entity.Info
	known   bool
	absent  []*item   // the API does not know them
	at      time.Time // of the last answer, by Intuit's clock
	suspect bool      // the server fails on this batch, and on nothing else
}

// read asks for items at once and, where that fails because of some of them,
// for fewer.
func (r *reader) read(ctx context.Context, items []*item) {
	result, err := r.query(ctx, items)
	switch {
	case err == nil:
		if !r.known {
			r.p.unknown.accept(r.realm, r.info.Name)
		}
		r.match(items, result)
	case sabotage.On(sabotage.FailedReadIsEvidence):
		r.absent = append(r.absent, items...)
	case unknownEntity(err):
		r.p.unknown.refuse(r.realm, r.info.Name)
		fail(items, stream.Permanent(stream.ReasonUnknownEntity, err))
	case !r.someOf(ctx, err, items):
		fail(items, cause(err))
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
		ids[i] = qbo.Quote(it.ref.ID)
	}
	statement := fmt.Sprintf("SELECT * FROM %s WHERE Id IN (%s)", r.info.Name, strings.Join(ids, ", "))
	if r.info.List {
		// Without this a Query leaves out what was made inactive, which is not gone.
		statement += " AND Active IN (true, false)"
	}
	statement += fmt.Sprintf(" MAXRESULTS %d", len(items))
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
		r.p.judge(it, e, at)
	case errors.Is(err, qbo.ErrNotFound):
		r.absent = append(r.absent, it)
	case errors.Is(err, qbo.ErrPoison),
		errors.Is(queried, qbo.ErrPoison) && lasting(err),
		errors.Is(err, qbo.ErrServer) && r.suspect && it.tries() >= r.p.poisonAfter:
		fail([]*item{it}, stream.Permanent(stream.ReasonPoison, err))
	default:
		fail([]*item{it}, cause(err))
	}
}

// someOf reports whether the error may be about some of the items only.
func (r *reader) someOf(ctx context.Context, err error, items []*item) bool {
	switch {
	case errors.Is(err, qbo.ErrTooLong), errors.Is(err, qbo.ErrPoison), lasting(err):
		return true
	case !errors.Is(err, qbo.ErrServer):
		return false
	case r.suspect:
		return true
	}
	return r.serverIsUp(ctx, items)
}

// serverIsUp asks for a count after a batch has failed several times. If that
// works, it is not the server that is in trouble but a record. One call, so that
// an outage of Intuit's does not cost one for each item.
func (r *reader) serverIsUp(ctx context.Context, items []*item) bool {
	tries := 0
	for _, it := range items {
		tries = max(tries, it.tries())
	}
	if tries < suspectAfter {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	_, err := r.client.Query(ctx, r.realm, "SELECT COUNT(*) FROM "+r.info.Name)
	r.p.count.call("query", 0, err)
	r.suspect = err == nil
	return r.suspect
}

// lasting reports whether the API refuses the request itself, whenever it is made.
func lasting(err error) bool {
	var f *qbo.Fault
	return errors.Is(err, qbo.ErrTooLarge) || errors.As(err, &f) && !qbo.Temporary(err) &&
		!errors.Is(err, qbo.ErrUnauthorized) && !errors.Is(err, qbo.ErrForbidden)
}

func unknownEntity(err error) bool {
	var f *qbo.Fault
	if !errors.As(err, &f) || !errors.Is(err, qbo.ErrInvalidQuery) {
		return false
	}
	for _, e := range f.Errors {
		// "QueryValidationError: Metadata not found for Entity: TaxService"
		if strings.Contains(strings.ToLower(e.Message+" "+e.Detail), "metadata not found") {
			return true
		}
	}
	return false
}

// cause says what becomes of items that could not be read.
func cause(err error) error {
	var f *qbo.Fault
	switch {
	case errors.Is(err, state.ErrBudget):
		return stream.RetryAfter(err, budgetDelay)
	case errors.Is(err, connection.ErrReauthRequired), errors.Is(err, connection.ErrParked):
		return errParked
	case errors.Is(err, connection.ErrNotConnected):
		return stream.Permanent(stream.ReasonRealmNotConnected, err)
	case errors.Is(err, connection.ErrSealed):
		return err // until somebody brings the key
	case lasting(err):
		return stream.Permanent(stream.ReasonRefused, err)
	case errors.As(err, &f) && f.RetryAfter > 0:
		return stream.RetryAfter(err, f.RetryAfter)
	case f == nil && !qbo.Temporary(err) && !errors.Is(err, context.Canceled):
		return paused(err) // the limiter's or the tokens' Redis
	}
	return err
}

// fail gives every unit of the items its outcome.
func fail(items []*item, err error) {
	for _, it := range items {
		for _, u := range it.open() {
			u.err = err
			if errors.Is(err, qbo.ErrForbidden) && u.attempt() >= forbiddenAfter {
				u.err = stream.Permanent(stream.ReasonRefused, err)
			}
		}
	}
}
