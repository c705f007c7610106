package processor_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// holder is a sink that can say what it holds.
type holder struct {
	*memory
	fail   chan error // what the next readings end with
	during func()     // called at the end of the first reading; may be nil
	held   []sink.Version
}

func (h *holder) Held(_ context.Context, entities []string) iter.Seq2[sink.Version, error] {
	return func(yield func(sink.Version, error) bool) {
		select {
		case err := <-h.fail:
			yield(sink.Version{}, err)
			return
		default:
		}
		for _, v := range h.held {
			if slices.Contains(entities, v.Entity) && !yield(v, nil) {
				return
			}
		}
		if h.during != nil {
			h.during()
			h.during = nil
		}
	}
}

var _ processor.Holder = (*holder)(nil)

// What Redis has lost is given back by the sinks that know it, also when the first try
// fails and when it is lost again. Chaos run, seed 8: two TimeActivities that were deleted
// meanwhile stayed in the sinks, since nobody knew that these had them.
func TestProcessor_SinksGiveRedisTheirMarksBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := &holder{memory: b.a, fail: make(chan error, 1)}
	for _, realm := range []string{realm, "8"} {
		for _, id := range []string{"1", "2"} {
			h.held = append(h.held, sink.Version{Ref: sink.Ref{Realm: realm, Entity: "TimeActivity", ID: id}, Version: 41})
		}
		h.held = append(h.held, sink.Version{Ref: sink.Ref{Realm: realm, Entity: "Invoice", ID: "1"}, Version: 41})
	}
	h.fail <- errors.New("not now")
	o := b.options()
	o.Sinks = []processor.Sink{h, b.b}
	b.run(o)
	known := func(realm, sink, entity string) bool {
		ids, err := b.store.LiveIDs(t.Context(), realm, sink, entity)
		return err == nil && len(ids) == 2 && ids["1"] == 41
	}
	both := func() bool { return known(realm, "a", "TimeActivity") && known("8", "a", "TimeActivity") }
	require.Eventually(t, both, patient, 50*time.Millisecond)
	require.NoError(t, b.store.Redis().FlushDB(t.Context()).Err())
	require.Eventually(t, both, patient, 50*time.Millisecond)
	require.False(t, known(realm, "b", "TimeActivity"), "it cannot say what it holds")
	ids, err := b.store.LiveIDs(t.Context(), realm, "a", "Invoice")
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"1": 41}, ids, "CDC does not tell of its deletions where it is cut off")
}

// Emptied after the marks are given back and before that is noted, Redis has no marks and
// must not pass for one that has.
func TestProcessor_RedisIsEmptiedWhileItGetsItsMarksBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, empty := &holder{memory: b.a}, &holder{memory: b.b}
	for _, id := range []string{"1", "2"} {
		a.held = append(a.held, sink.Version{Ref: sink.Ref{Realm: realm, Entity: "TimeActivity", ID: id}, Version: 41})
	}
	// The marks of a are back by then.
	empty.during = func() { assert.NoError(t, b.store.Redis().FlushDB(context.WithoutCancel(t.Context())).Err()) }
	o := b.options()
	o.Sinks = []processor.Sink{a, empty}
	b.run(o)
	require.Eventually(t, func() bool {
		ids, err := b.store.LiveIDs(t.Context(), realm, "a", "TimeActivity")
		return err == nil && len(ids) == len(a.held)
	}, patient, 50*time.Millisecond)
}
