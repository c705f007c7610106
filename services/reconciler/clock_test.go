package reconciler_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const year = 365 * 24 * time.Hour

// ahead is a reconciler whose own clock is not Redis's.
func (b *bundle) ahead(d func() time.Duration) *reconciler.Reconciler {
	b.t.Helper()
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: b.store, QBO: b.client, Connections: b.connections,
		Logger: b.log, Now: func() time.Time { return b.clock.Now().Add(d()) },
	})
	require.NoError(b.t, err)
	return r
}

func by(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// A replica's clock is wrong by a year, for one look at the schedule or for a while: a VM
// that was resumed, a bad time server.
func TestClock_ThatWasAheadOnceDoesNotEndTheScans(t *testing.T) {
	for name, d := range map[string]time.Duration{"ahead": year, "behind": -year} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := loaded(t, 5)
			stop := run(t, b.ahead(by(d)))
			b.rest()
			stop()
			due := b.due().Sub(b.clock.Now())
			require.LessOrEqual(t, due, b.config.Interval)
			require.Greater(t, due, b.config.Interval/2)
			pace, err := b.store.Pace(t.Context(), realm)
			require.NoError(t, err)
			require.WithinDuration(t, b.clock.Now(), pace.Scanned, time.Minute)

			ref := b.create("Invoice") // its webhook is lost
			b.clock.Advance(due + time.Second)
			defer run(t, b.reconciler())()
			require.Eventually(t, func() bool { return b.has("Invoice", ref.ID) }, patient, 10*time.Millisecond)
		})
	}
}

// The same of a replica of an older version, which wrote down its own time.
func TestClock_WhatAnOlderVersionScheduledAYearAheadIsScanned(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 5)
	stop := run(t, b.reconciler())
	b.rest()
	stop()
	later := b.clock.Now().Add(year)
	member := redis.Z{Score: float64(later.UnixMilli()), Member: realm}
	require.NoError(t, b.store.Redis().ZAdd(t.Context(), shardOf("due"), member).Err())
	require.NoError(t, b.store.Redis().ZAdd(t.Context(), shardOf("claim"), member).Err())
	require.NoError(t, b.store.SetPace(t.Context(), realm, state.Pace{Scanned: later, Full: later, Changed: later.Add(-year)}))
	require.Equal(t, later.Truncate(time.Millisecond), b.due())

	b.clock.Advance(time.Hour)
	ref, quiet := b.create("Invoice"), b.create("TimeActivity") // their webhooks are lost
	b.clock.Advance(48 * time.Hour)
	defer run(t, b.reconciler())()
	require.Eventually(t, func() bool { return b.has("Invoice", ref.ID) && b.has("TimeActivity", quiet.ID) }, patient, 10*time.Millisecond)
	b.rest()
	require.LessOrEqual(t, b.due().Sub(b.clock.Now()), b.config.Interval)
}

// shardOf is the key of the realm's part of the schedule.
func shardOf(kind string) string {
	keys := map[string]string{"due": "lf:1:due:", "claim": "lf:1:claim:"}
	return keys[kind] + "{shard-" + twoDigits(state.Shard(realm)) + "}"
}

func twoDigits(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }

// The clock jumps back and forth under a running replica.
func TestClock_ThatJumpsDelaysNothing(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 5)
	var off atomic.Int64
	r := b.ahead(func() time.Duration { return time.Duration(off.Load()) })
	defer run(t, r)()
	b.rest()
	for i, jump := range []time.Duration{year, 0, -year, 10 * year, 0} {
		off.Store(int64(jump))
		ref := b.create("Invoice")
		b.clock.Advance(b.due().Sub(b.clock.Now()) + time.Second)
		require.Eventually(t, func() bool { return b.has("Invoice", ref.ID) }, patient, 10*time.Millisecond, "jump %d", i)
		b.rest()
		require.LessOrEqual(t, b.due().Sub(b.clock.Now()), b.config.Interval)
	}
}

// The same leap and the watch over the ingress: an hour of silence is an outage.
func TestClock_ThatWasAheadOnceDoesNotBlindTheWatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at, gap := b.clock.Now(), 30*time.Second
	note := func(at time.Time, heard bool) {
		_, err := b.store.NoteWatch(t.Context(), at, heard, gap)
		require.NoError(t, err)
	}
	note(at, true)
	note(at.Add(year), false) // one replica, one look
	note(at.Add(5*time.Second), true)
	for d := 10 * time.Second; d < time.Hour; d += 5 * time.Second {
		note(at.Add(d), false) // an hour without any ingress
	}
	note(at.Add(time.Hour), true)
	var ingress []state.Outage
	for _, o := range b.outages() {
		if o.Kind == state.OutageIngress {
			ingress = append(ingress, o)
		}
	}
	require.NotEmpty(t, ingress, "an hour without ingress is no outage; noted: %v", b.outages())
}

// Replicas whose own clocks differ by a year hear the same ingress: no outage.
func TestClock_ReplicasThatDifferSeeNoOutage(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 5)
	b.config.OutageGap = 10 * time.Minute
	defer run(t, b.ahead(by(year)))()
	defer run(t, b.ahead(by(-time.Hour)))()
	defer run(t, b.reconciler())()
	for range 5 {
		b.beat()
		b.clock.Advance(time.Minute)
	}
	require.Empty(t, b.outages())
}
