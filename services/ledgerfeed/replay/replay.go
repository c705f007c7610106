package replay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Options are what to replay, and with what. Stream, QBO, Realm and Sink are
// required.
type Options struct {
	Stream *stream.Conn
	QBO    *qbo.Client

	Realm, Sink string
	// Entities are names as the API spells them; none is all that Query knows.
	Entities []string
	// IDs are of the one entity in Entities: nothing is read to find them, and Since
	// and Until must be zero.
	IDs []string
	// Since and Until bound LastUpdatedTime, and the time of deletions: inclusive
	// and exclusive, zero for no bound.
	Since, Until time.Time

	// Progress is called after each call of the API; nil is none.
	Progress func(Result)
	Now      func() time.Time // nil is time.Now
}

// Result is what was, or would be, replayed.
type Result struct {
	// Records are those that exist, Deletions those that do not any more.
	Records, Deletions int
	// Calls are those made to find them; Hydration are those that the processor
	// makes to read them, as well as can be told.
	Calls, Hydration int
	// Entity is the one being read.
	Entity string
	// Notes say what was left out, and why.
	Notes []string
}

const (
	// perRead is how many records the processor reads in one call, perPage how many
	// one call here finds.
	perRead, perPage = 400, 1000
	// cdcReach is how far back ChangeDataCapture is asked, a day short of Intuit's
	// limit.
	cdcReach = 29 * 24 * time.Hour
	// tries bounds how long a call or a publish is repeated: some 15 seconds.
	tries = 5
)

// run is one replay under way.
type run struct {
	o        Options
	id       string
	batches  int
	explicit bool // the entities were named
	result   Result
}

func newRun(o Options) *run {
	r := &run{o: o, explicit: len(o.Entities) > 0}
	if r.o.Now == nil {
		r.o.Now = time.Now
	}
	if !r.explicit {
		for _, info := range entity.All() {
			if info.Query {
				r.o.Entities = append(r.o.Entities, info.Name)
			}
		}
	}
	r.o.Since, r.o.Until = o.Since.Truncate(time.Second), o.Until.Truncate(time.Second)
	var unique [6]byte
	_, _ = rand.Read(unique[:]) // crypto/rand does not fail
	r.id = fmt.Sprintf("replay-%d-%s", r.o.Now().UnixMilli(), hex.EncodeToString(unique[:]))
	return r
}

// Run replays. After an error some of it is on the stream already, as the result
// says; repeating it all is safe.
func Run(ctx context.Context, o Options) (Result, error) {
	r := newRun(o)
	if len(o.IDs) > 0 {
		return r.result, r.ids(ctx)
	}
	for _, name := range r.o.Entities {
		r.result.Entity = name
		if err := r.records(ctx, name); err != nil {
			return r.result, err
		}
	}
	err := r.deletions(ctx)
	return r.result, err
}

// ids replays records that were named: whether they exist, the processor finds out.
func (r *run) ids(ctx context.Context) error {
	var events []*ledgerfeedv1.Event
	for _, id := range r.o.IDs {
		events = append(events, r.event(qbo.Entity{Name: r.o.Entities[0], ID: id}, 0))
	}
	r.result.Entity = r.o.Entities[0]
	if err := r.publish(ctx, events); err != nil {
		return err
	}
	r.found(len(events))
	return nil
}

// records replays what there is of an entity.
func (r *run) records(ctx context.Context, name string) error {
	seen := map[string]int64{}
	reading := r.reading(name)
	reading.Page = func(items []qbo.Entity) error {
		var events []*ledgerfeedv1.Event
		fresh := 0
		for _, item := range items {
			version, again := seen[item.ID]
			if again && version >= item.Version() {
				continue // pages overlap
			}
			if !again {
				fresh++
			}
			seen[item.ID] = item.Version()
			events = append(events, r.event(item, item.Version()))
		}
		if err := r.publish(ctx, events); err != nil {
			return err
		}
		r.found(fresh)
		return nil
	}
	reading.Unread = func(second time.Time) {
		r.note("QuickBooks fails on a %s last updated at %s: it is left out, and its id is not known", name, qbo.FormatTime(second))
	}
	return r.unlessUnknown(name, reading.Run(ctx))
}

// unlessUnknown lets a company be without an entity that nobody named.
func (r *run) unlessUnknown(name string, err error) error {
	if errors.Is(err, qbo.ErrInvalidQuery) && !r.explicit {
		r.note("%s: QuickBooks does not know it in this company", name)
		return nil
	}
	return err
}

// event has no version where none is known: the processor then reads without
// waiting for one.
func (r *run) event(item qbo.Entity, version int64) *ledgerfeedv1.Event {
	e := &ledgerfeedv1.Event{
		Id: fmt.Sprintf("%s/%s/%s", r.id, item.Name, item.ID), Entity: item.Name, EntityId: item.ID,
		Operation: ledgerfeedv1.Operation_OPERATION_UPDATE, Version: version,
	}
	if item.Deleted {
		e.Operation = ledgerfeedv1.Operation_OPERATION_DELETE
	}
	if !item.LastUpdated.IsZero() {
		e.OccurredAt = timestamppb.New(item.LastUpdated)
	}
	return e
}

// publish puts events on the stream, for the one sink.
func (r *run) publish(ctx context.Context, events []*ledgerfeedv1.Event) error {
	r.batches++
	seed := fmt.Sprintf("%s/%d", r.id, r.batches)
	envs := envelope.New(ledgerfeedv1.Source_SOURCE_REPLAY, r.o.Realm, seed, events, envelope.Meta{ReceivedAt: r.o.Now()})
	for _, e := range envs {
		e.Sink = r.o.Sink
	}
	// Repeating is safe: an envelope has the same id each time.
	again := retry.Calls(tries, retry.If(stream.ErrNotDurable))
	if err := again.Do(ctx, func() error { return r.o.Stream.PublishLater(ctx, envs...) }); err != nil {
		return fmt.Errorf("publish %d records: %w", len(events), err)
	}
	return nil
}

func (r *run) found(records int) {
	r.result.Records += records
	r.result.Hydration += calls(records, perRead)
	r.progress()
}

func (r *run) progress() {
	if r.o.Progress != nil {
		r.o.Progress(r.result)
	}
}

func (r *run) note(format string, args ...any) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, args...))
}

// since is where ChangeDataCapture is asked from.
func (r *run) cdcSince() time.Time {
	oldest := r.o.Now().Add(-cdcReach).Truncate(time.Second)
	if r.o.Since.After(oldest) {
		return r.o.Since
	}
	return oldest
}

// calls is how many calls of so many records each n need.
func calls(n, each int) int { return (n + each - 1) / each }

// within reports whether a time is in the range.
func (r *run) within(t time.Time) bool {
	return !t.Before(r.o.Since) && (r.o.Until.IsZero() || t.Before(r.o.Until))
}

// known are those of the entities that ChangeDataCapture covers, others the rest.
func (r *run) known() (known, others []string) {
	for _, name := range r.o.Entities {
		if info, _ := entity.Lookup(name); info.CDC {
			known = append(known, name)
		} else {
			others = append(others, name)
		}
	}
	slices.Sort(known)
	return known, others
}
