package processor

import (
	"context"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// This file decides what follows from a read that the API or a gateway refused. One
// response proves little: gateways answer 404 or 400 for a second, and a company that
// cannot be read refuses every record. So a refusal is retried with growing delays, and a
// dead letter needs evidence that it concerns these records and nothing else.

const (
	// suspectAfter: a batch that failed so often is divided if its entity can be read
	// otherwise, because one record may be the cause.
	suspectAfter = 4
	// poisonAfter: a record on which the server fails so often, and on no other, is
	// poison although no code says so. That is after half an hour.
	poisonAfter = 12
	// confirmAfter: what a response names as the cause (a poison record, an unknown
	// entity) is refused so often, over a second or two, before the dead letter.
	confirmAfter = 3
	// A refusal that no code explains is final after so many responses over so long a
	// time.
	refusedAfter = 5
	refusedFor   = time.Hour
)

// Bounds on how often one batch is divided; each division costs one or two calls. Nine
// divisions find one record among 400. What is left is retried.
const (
	maxDivisions = 12
	// maxExplained is for responses that name a record or the size as the cause: enough for
	// 64 such records. It also bounds how many are then read one by one.
	maxExplained = 128
)

// readAll asks for all items at once, but for records that were named as poison lately:
// they would make the request fail again.
func (r *reader) readAll(ctx context.Context, items []*item) {
	var rest []*item
	for _, it := range items {
		if r.singles < maxExplained && r.p.refusals.poison(r.realm, it.ref, r.p.now()) {
			r.singles++
			r.readOne(ctx, it, qbo.ErrPoison)
			continue
		}
		rest = append(rest, it)
	}
	if len(rest) > 0 {
		r.read(ctx, rest)
	}
}

// divide reports whether to ask for fewer of the items: the response names one of them
// or their number as the cause, or the entity can be read otherwise.
func (r *reader) divide(ctx context.Context, items []*item, err error) bool {
	limit := maxDivisions
	switch {
	case named(err):
		limit = maxExplained
	case qbo.MeaningOf(err) == qbo.MeaningFilterUnsupported && len(items) == 1:
		// Read by its id, it needs no condition.
	case !unexplained(err) || !r.suspect(ctx, items):
		return false
	}
	if r.divisions >= limit {
		return false
	}
	r.divisions++
	return true
}

// named reports whether the response says that the cause is in the request.
func named(err error) bool {
	switch qbo.MeaningOf(err) {
	case qbo.MeaningPoison, qbo.MeaningNotFound:
		return true
	}
	return errors.Is(err, qbo.ErrTooLarge) || errors.Is(err, qbo.ErrTooLong)
}

// unexplained reports whether a response leaves open what it concerns: a record, the
// entity or all of the company.
func unexplained(err error) bool {
	var f *qbo.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch qbo.MeaningOf(err) {
	case qbo.MeaningRequest, qbo.MeaningEntityUnavailable, qbo.MeaningFilterUnsupported, qbo.MeaningTransient:
		return true
	}
	return false
}

// lasting reports whether the API itself refused the request for its content: the same
// request may be refused whenever it is made.
func lasting(err error) bool {
	switch qbo.MeaningOf(err) {
	case qbo.MeaningRequest, qbo.MeaningEntityUnavailable, qbo.MeaningFilterUnsupported:
		return true
	}
	return named(err)
}

// suspect reports whether the cause is in the batch: it failed several times, and a count
// of the entity succeeds. One call, so that an outage does not cost one for each item.
func (r *reader) suspect(ctx context.Context, items []*item) bool {
	tries := 0
	for _, it := range items {
		tries = max(tries, it.tries())
	}
	return tries >= suspectAfter && r.count(ctx, r.info.Name) == nil
}

// answers reports whether the entity was asked for a count and answered.
func (r *reader) answers() bool {
	err, asked := r.counts[r.info.Name]
	return asked && err == nil
}

// count asks for the number of records of an entity, once for each batch.
func (r *reader) count(ctx context.Context, name string) error {
	if err, asked := r.counts[name]; asked {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.p.config.ReadTimeout)
	defer cancel()
	_, err := r.client.Query(ctx, r.realm, "SELECT COUNT(*) FROM "+name)
	r.p.count.call("query", 0, err)
	if r.counts == nil {
		r.counts = map[string]error{}
	}
	r.counts[name] = err
	return err
}

// refused gives items that could not be read their outcome: another try, or a dead
// letter for a record that was refused for long enough.
func (r *reader) refused(ctx context.Context, items []*item, err error) {
	retry := cause(err)
	if !refuses(err) {
		fail(items, retry)
		return
	}
	noted := r.noteRefused(ctx, items, qbo.MeaningOf(err))
	for i, it := range items {
		past := noted[i]
		if past.times < r.p.refusedAfter || past.last.Sub(past.first) < r.p.refusedFor || !r.final(ctx, items, err) {
			fail([]*item{it}, retry)
			continue
		}
		r.notRefused(it) // requeued, it is retried for as long again
		fail([]*item{it}, stream.Permanent(stream.ReasonRefused, err))
	}
}

// refuses reports whether a response refuses the request, and may do so for ever.
func refuses(err error) bool {
	var f *qbo.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch qbo.MeaningOf(err) {
	case qbo.MeaningRequest, qbo.MeaningEntityUnavailable, qbo.MeaningFilterUnsupported, qbo.MeaningCompanyAccess:
		return true
	case qbo.MeaningTransient:
		return !errors.Is(err, qbo.ErrServer) // a gateway's
	}
	return false
}

// final reports whether the refusal concerns these items, or their entity, and not the
// company or everything: then they would wait for a person or for the end of an outage.
func (r *reader) final(ctx context.Context, items []*item, err error) bool {
	if len(items) > 1 && r.answers() {
		return false // one of them is the cause; the others wait until it is found
	}
	switch qbo.MeaningOf(err) {
	case qbo.MeaningCompanyAccess, qbo.MeaningTransient:
		return r.count(ctx, r.another()) == nil
	}
	return true
}

// another is an entity that every company has, and not the one that is read.
func (r *reader) another() string {
	if r.info.Name == "Account" {
		return "Customer"
	}
	return "Account"
}

// confirm is for a record that responses of this meaning name as the cause. It is
// remembered: its next event costs one response. After enough tries fewer will do, for
// another replica may have had the others: one for poison, which Query and read both name.
func (r *reader) confirm(it *item, m qbo.Meaning, reason stream.Reason, err error) (final bool) {
	times := r.p.refusals.note(r.realm, it.ref, m, r.p.now()).times
	late := it.tries() >= confirmAfter && (times >= 2 || m == qbo.MeaningPoison)
	if times < confirmAfter && !late {
		fail([]*item{it}, cause(err))
		return false
	}
	fail([]*item{it}, stream.Permanent(reason, err))
	return true
}

// unknownName is for items of an entity that Query does not know.
func (r *reader) unknownName(items []*item, err error) {
	for _, it := range items {
		if r.confirm(it, qbo.MeaningEntityUnavailable, stream.ReasonUnknownEntity, err) {
			r.p.unknown.refuse(r.realm, r.info.Name)
		}
	}
}
