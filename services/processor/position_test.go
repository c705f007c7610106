package processor_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// database is a sink that can be backed up and restored.
type database struct {
	*memory

	mu     sync.Mutex // guards the rest
	id     string
	server string
	n      int64
	held   map[sink.Ref]int64
	looks  int   // how often for the position
	asked  int   // how often for versions
	fail   error // of the next question for versions
}

var _ processor.Positioned = (*database)(nil)

func newDatabase(m *memory) *database {
	return &database{memory: m, id: "first", server: "one", held: map[sink.Ref]int64{}}
}

func (d *database) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if err := d.memory.Write(ctx, changes); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		d.held[sink.RefOf(c)] = max(d.held[sink.RefOf(c)], c.GetVersion())
	}
	return nil
}

func (d *database) Position(context.Context) (sink.Position, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	d.looks++
	return sink.Position{ID: d.id, Server: d.server, N: d.n}, nil
}

func (d *database) Versions(_ context.Context, realm, entity string, ids []string) (map[string]sink.Row, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if err := d.fail; err != nil {
		d.fail = nil
		return nil, err
	}
	rows := map[string]sink.Row{}
	for _, id := range ids {
		if v, ok := d.held[sink.Ref{Realm: realm, Entity: entity, ID: id}]; ok {
			rows[id] = sink.Row{Version: v}
		}
	}
	return rows, nil
}

func (d *database) questions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// backup returns what makes the database what it is now.
func (d *database) backup() (restore func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, held := d.n, maps.Clone(d.held)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.n, d.held = n, maps.Clone(held)
	}
}

func (d *database) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// looked waits until a processor has looked at the position after what was done to it.
func (b *bundle) looked(d *database) {
	b.t.Helper()
	looks := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.looks
	}
	after := looks() + 2 // one may be under way, and one ends before the next
	require.Eventually(b.t, func() bool { return looks() > after }, patient, 10*time.Millisecond)
}

// A sink goes back to an earlier state in one of several ways: what it lost is found by
// scans, since the marks and the cursors go back with it.
func TestPosition_ASinkThatLostChangesIsGivenThemAgain(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*database){
		"restored from a backup": func(*database) {},
		"failed over to a standby that was behind": func(d *database) {
			d.n, d.server = d.n+1000, "two" // the number alone says nothing
		},
		"restored into another store": func(d *database) { d.id, d.n = "second", d.n+1000 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			d := newDatabase(b.a)
			o := b.options()
			o.Sinks = []processor.Sink{d, b.b}
			p := b.run(o)
			kept, changed, gone := b.create("Bill", nil), b.create("Invoice", nil), b.create("Payment", nil)
			b.deliver(p)
			before := b.sim.Truth(realm)[changed].Version
			b.looked(d)
			restore := d.backup()
			b.looked(d)
			at := b.clock.Now()
			b.clock.Advance(time.Hour)
			require.NoError(t, b.sim.Update(changed, nil))
			require.NoError(t, b.sim.Delete(gone))
			lost := b.create("Invoice", nil)
			b.deliver(p)
			end := b.clock.Now().Truncate(time.Second)
			cursors := map[string]time.Time{"Invoice": end, "Payment": end, "Bill": end, "Item": end}
			require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursors))
			require.NoError(t, b.store.Done(t.Context(), realm, state.Never))

			restore()
			d.change(func() { lose(d) })
			b.looked(d)
			require.Equal(t, before, b.marks("a", changed.Entity, changed.ID).Version)
			require.Zero(t, b.marks("a", changed.Entity, changed.ID).Covered, "a webhook of then is no duplicate any more")
			require.Zero(t, b.marks("a", lost.Entity, lost.ID))
			require.False(t, qbo.IsTombstone(b.marks("a", gone.Entity, gone.ID).Version))
			require.Equal(t, b.sim.Truth(realm)[kept].Version, b.marks("a", kept.Entity, kept.ID).Version)
			require.Equal(t, b.sim.Truth(realm)[lost].Version, b.marks("b", lost.Entity, lost.ID).Version, "the other sink has lost nothing")
			moved, err := b.store.Cursors(t.Context(), realm)
			require.NoError(t, err)
			for _, entity := range []string{"Invoice", "Payment"} {
				require.True(t, moved[entity].After(at) && moved[entity].Before(cursors[entity].Add(-30*time.Second)), "%s: %s", entity, moved[entity])
			}
			for _, entity := range []string{"Bill", "Item"} {
				require.Equal(t, cursors[entity], moved[entity], entity)
			}
			due, err := b.store.Due(t.Context(), realm)
			require.NoError(t, err)
			require.Equal(t, b.clock.Now(), due)
		})
	}
}

// A restart of the server, a Redis of before, a first start: nothing is lost, and nothing
// moves.
func TestPosition_NothingIsLostWhereNothingIsMissing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := newDatabase(b.a)
	o := b.options()
	o.Sinks = []processor.Sink{d, b.b}
	p := b.run(o)
	bill := b.create("Bill", nil)
	b.deliver(p)
	b.looked(d)
	require.Zero(t, d.questions(), "the first look finds no earlier one")
	cursor := map[string]time.Time{"Bill": b.clock.Now().Truncate(time.Second)}
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
	unmoved := func() {
		b.looked(d)
		cursors, err := b.store.Cursors(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, cursor, cursors)
		require.Equal(t, b.sim.Truth(realm)[bill].Version, b.marks("a", "Bill", bill.ID).Version)
	}
	d.change(func() { d.server = "two" })
	unmoved()
	require.Positive(t, d.questions())

	asked := d.questions()
	require.NoError(t, b.store.SetSinkPosition(t.Context(), "a", state.SinkPosition{ID: "first", Server: "two", N: 1})) // Redis was restored
	unmoved()
	require.Equal(t, asked, d.questions())
}

// The comparison fails half way, and the replica dies after it has lowered marks.
func TestPosition_ALossIsNotForgottenHalfWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := newDatabase(b.a)
	o := b.options()
	o.Sinks = []processor.Sink{d, b.b}
	p := b.run(o)
	b.settle(p)
	b.looked(d)
	restore := d.backup()
	b.looked(d)
	invoice := b.create("Invoice", nil)
	b.deliver(p)
	end := b.clock.Now().Add(time.Hour).Truncate(time.Second)
	cursor := map[string]time.Time{"Invoice": end, "Bill": end}
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, cursor))
	d.change(func() { d.fail = errors.New("not now") })
	restore()
	require.Eventually(t, func() bool { return b.marks("a", "Invoice", invoice.ID).Version == 0 }, patient, 10*time.Millisecond)
	rewound := func(entity string) func() bool {
		return func() bool {
			cursors, err := b.store.Cursors(t.Context(), realm)
			return err == nil && cursors[entity].Before(cursor[entity])
		}
	}
	require.Eventually(t, rewound("Invoice"), patient, 10*time.Millisecond)

	// As a replica leaves it that dies between its marks and its cursors.
	require.False(t, rewound("Bill")())
	require.NoError(t, b.store.NoteRewind(t.Context(), "a", state.Rewind{Realm: realm, Entity: "Bill"}, b.clock.Now()))
	require.Eventually(t, rewound("Bill"), patient, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		p, err := b.store.SinkPosition(t.Context(), "a")
		return err == nil && len(p.Rewinds) == 0
	}, patient, 10*time.Millisecond)
}

// A write that the lost server has taken is marked only after the marks were compared.
func TestPosition_TheMarksAreComparedOnceMore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := newDatabase(b.a)
	o := b.options()
	o.Sinks = []processor.Sink{d, b.b}
	p := b.run(o)
	b.settle(p)
	b.looked(d)
	d.change(func() { d.server = "two" })
	b.looked(d)
	ref := state.Ref{Entity: "Bill", ID: "7"}
	require.NoError(t, b.store.Advance(t.Context(), realm, "a", []state.Advance{{Ref: ref, Version: qbo.Version(b.clock.Now(), "3", false)}}))
	b.looked(d)
	require.Positive(t, b.marks("a", ref.Entity, ref.ID).Version)
	b.clock.Advance(5 * time.Minute)
	b.looked(d)
	require.Zero(t, b.marks("a", ref.Entity, ref.ID))
	asked := d.questions()
	b.clock.Advance(5 * time.Minute)
	b.looked(d)
	require.Equal(t, asked, d.questions())
}

// What a filter keeps back is marked and not written: that is no loss.
func TestPosition_WhatAFilterKeepsBackIsNotLost(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{"a entity=Invoice", "a operation=delete"} {
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.config.SinkFilters = []string{filter}
			d := newDatabase(b.a)
			o := b.options()
			o.Sinks = []processor.Sink{d, b.b}
			p := b.run(o)
			bill := b.create("Bill", nil)
			b.deliver(p)
			b.looked(d)
			mark := b.marks("a", "Bill", bill.ID)
			require.Positive(t, mark.Version)
			d.change(func() { d.server = "two" })
			b.looked(d)
			require.Equal(t, mark, b.marks("a", "Bill", bill.ID))
		})
	}
}
