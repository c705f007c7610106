package reconciler_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// refuse does what the processor does when a sink refuses a change: a dead letter, and
// its record. It returns the number of the letter.
func (b *bundle) refuse(sink string, e *ledgerfeedv1.Event) uint64 {
	b.t.Helper()
	ctx := context.WithoutCancel(b.t.Context())
	letter, err := b.conn.StoreDead(ctx, stream.DeadLetter{
		Reason: stream.ReasonSinkRefused, RealmID: realm, Sink: sink, At: b.clock.Now(),
		Envelope: envelope.New(ledgerfeedv1.Source_SOURCE_CDC, realm, "refused", []*ledgerfeedv1.Event{e}, envelope.Meta{})[0],
	})
	require.NoError(b.t, err)
	require.NoError(b.t, b.store.MarkDead(ctx, realm, b.conn.DeadMaxAge(), state.DeadRecord{
		Ref: state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}, Sink: sink, Version: e.GetVersion(), Letter: letter,
	}))
	return letter
}

// eventOf is what a scan publishes of a record as it is.
func (b *bundle) eventOf(ref qbosim.Ref) *ledgerfeedv1.Event {
	return &ledgerfeedv1.Event{Entity: ref.Entity, EntityId: ref.ID, Version: b.sim.Truth(realm)[ref].Version}
}

// add registers another sink, as the processor does it.
func (b *bundle) add(sink string) {
	b.t.Helper()
	_, err := b.store.RegisterSinks(b.t.Context(), []string{sink})
	require.NoError(b.t, err)
	require.NoError(b.t, b.store.RewindCursors(b.t.Context(), realm, nil, time.Time{}))
	b.feed.lateSink(sink)
}

func TestDead_ANewSinkGetsWhatWasOnceADeadLetter(t *testing.T) {
	t.Parallel()
	b, r := loaded(t, 10)
	b.clock.Advance(time.Hour)
	var refs []qbosim.Ref
	for _, name := range []string{"Invoice", "Customer", "TimeActivity"} {
		ref := b.create(name)
		refs = append(refs, ref)
		letter := b.refuse("ledger", b.eventOf(ref))
		if name == "Customer" {
			continue // the letter stays: it is about another sink
		}
		require.NoError(t, b.conn.DeleteDead(t.Context(), letter))
		b.webhook(ref) // requeued and delivered
	}
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	b.add("late")
	b.reconcile(r)
	for _, ref := range refs {
		require.Equal(t, b.sim.Truth(realm)[ref].Version, b.feed.versions("late", realm)[state.Ref{Entity: ref.Entity, ID: ref.ID}], ref)
	}
}

func TestDead_ALetterOfOneSinkDoesNotHideThatAnotherLacksTheChange(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Invoice", "Vendor", "TimeActivity"} {
		for _, refuses := range []string{"picky", "ledger"} {
			t.Run(name+" "+refuses, func(t *testing.T) {
				t.Parallel()
				b, r := loaded(t, 10)
				b.add("picky")
				b.reconcile(r)
				b.requireEqual()
				b.clock.Advance(time.Hour)
				ref := b.create(name)
				b.refuse(refuses, b.eventOf(ref))
				b.clock.Advance(time.Hour)
				b.reconcile(r)
				for _, sink := range []string{"picky", "ledger"} {
					require.Equal(t, b.sim.Truth(realm)[ref].Version, b.feed.versions(sink, realm)[state.Ref{Entity: ref.Entity, ID: ref.ID}], sink)
				}
			})
		}
	}
}

// A letter ends in each of these ways; what it was about is missing again.
func TestDead_ALetterThatEndedExcusesNoSink(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bundle, letter uint64){
		"requeued": func(b *bundle, letter uint64) {
			d, err := b.conn.DeadLetter(b.t.Context(), letter)
			require.NoError(b.t, err)
			b.feed.losing(func(*ledgerfeedv1.Event) bool { return true }) // on its way, with the broker
			_, err = b.conn.Requeue(b.t.Context(), d)
			require.NoError(b.t, err)
			require.Eventually(b.t, func() bool {
				lag, err := b.conn.Lag(b.t.Context(), stream.Events, "test")
				return err == nil && lag.Stored == 0
			}, patient, time.Millisecond)
			b.feed.losing(nil)
		},
		"purged":  func(b *bundle, letter uint64) { require.NoError(b.t, b.conn.DeleteDead(b.t.Context(), letter)) },
		"expired": func(b *bundle, _ uint64) { b.clock.Advance(b.conn.DeadMaxAge()) },
		"another of its number": func(b *bundle, letter uint64) {
			require.NoError(b.t, b.store.MarkDead(b.t.Context(), realm, time.Hour, state.DeadRecord{
				Ref: state.Ref{Entity: "Invoice", ID: "1"}, Sink: "ledger", Version: 1, Letter: letter,
			}))
			require.NoError(b.t, b.conn.DeleteDead(b.t.Context(), letter))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 3)
			b.clock.Advance(time.Hour)
			ref := b.create("Invoice")
			var letter uint64
			b.feed.losing(func(e *ledgerfeedv1.Event) bool {
				letter = b.refuse("ledger", e)
				return true
			})
			b.clock.Advance(time.Hour)
			require.Equal(t, 1, b.reconcile(r).MissingCDC)
			b.feed.losing(nil)
			require.Zero(t, b.reconcile(r).MissingCDC, "the letter is there")
			end(b, letter)
			require.NoError(t, b.store.RewindCursors(t.Context(), realm, nil, b.clock.Now().Add(-100*24*time.Hour)))
			b.reconcile(r)
			require.Equal(t, b.sim.Truth(realm)[ref].Version, b.feed.version(ref))
		})
	}
}

// Two are left and two were delivered: but one of those left is in no sink.
func TestDead_ADeletionIsFoundThoughARecordWasNeverDelivered(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bundle, letter uint64){
		"a letter":            func(*bundle, uint64) {},
		"a letter was purged": func(b *bundle, letter uint64) { require.NoError(b.t, b.conn.DeleteDead(b.t.Context(), letter)) },
		"a letter of an earlier version": func(b *bundle, _ uint64) {
			all, err := b.store.Redis().HGetAll(b.t.Context(), "lf:1:dead:{"+realm+"}").Result()
			require.NoError(b.t, err)
			require.Len(b.t, all, 1)
			require.NoError(b.t, b.store.Redis().Del(b.t.Context(), "lf:1:dead:{"+realm+"}").Err())
			for field := range all {
				require.Equal(b.t, "ledger:", field[:7])
				require.NoError(b.t, b.store.Redis().HSet(b.t.Context(), "lf:1:dead:{"+realm+"}", field[7:], b.clock.Now().Unix()*1e6).Err())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			gone, _ := b.create("TimeActivity"), b.create("TimeActivity")
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			poison := b.create("TimeActivity")
			var letter uint64
			b.feed.losing(func(e *ledgerfeedv1.Event) bool {
				if e.GetEntityId() != poison.ID || e.GetEntity() != "TimeActivity" {
					return false
				}
				letter = b.refuse("ledger", e)
				return true
			})
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			b.feed.losing(nil)
			require.NotZero(t, letter)
			end(b, letter)

			b.clock.Advance(24 * time.Hour)
			if name == "a letter" {
				b.reconcile(r) // one that has ended would be delivered by it
			}
			require.NoError(t, b.sim.Delete(gone)) // its webhook is lost
			for range 5 {
				b.clock.Advance(8 * 24 * time.Hour)
				b.reconcile(r)
			}
			require.True(t, qbo.IsTombstone(b.feed.version(gone)))
		})
	}
}

// What is in no sink costs no sweep as long as nothing is deleted, also once QuickBooks
// has deleted it itself. Where all records are read anyway there is none at all.
func TestDead_WhatWasNeverDeliveredCostsOneSweep(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"read as a whole": 1, "counted": 600} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			b.many("TimeActivity", others)
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			poison := b.create("TimeActivity")
			b.feed.losing(func(e *ledgerfeedv1.Event) bool {
				if e.GetEntity() == "TimeActivity" {
					b.refuse("ledger", e)
				}
				return e.GetEntity() == "TimeActivity"
			})
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			b.feed.losing(nil)
			calls := func() int {
				b.clock.Advance(8 * 24 * time.Hour)
				return b.reconcile(r).Calls
			}
			calls()
			quiet := calls()
			require.NoError(t, b.sim.Delete(poison))
			if after := calls(); others > 500 {
				require.Greater(t, after, quiet)
			} else {
				require.Equal(t, quiet, after)
			}
			require.Equal(t, quiet, calls(), "it is forgotten")
			left, err := b.store.Undelivered(t.Context(), realm, "TimeActivity", func(string) bool { return false })
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}
