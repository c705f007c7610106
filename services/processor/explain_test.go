package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// created is the envelope of the creation alone, of what has happened since.
func created(t *testing.T, envs []*ledgerfeedv1.Envelope) *ledgerfeedv1.Envelope {
	t.Helper()
	for _, env := range envs {
		for _, e := range env.GetEvents() {
			if e.GetOperation() == ledgerfeedv1.Operation_OPERATION_CREATE {
				env.Events = []*ledgerfeedv1.Event{e}
				return env
			}
		}
	}
	require.Fail(t, "no creation")
	return nil
}

// A sink that was away is given what the others know to be gone, without asking why.
func TestProcessor_WhatAnotherSinkKnowsToBeGoneIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.start()
	bill := b.create("Bill", nil)
	made := b.webhooks()
	require.NoError(t, b.sim.Delete(bill))
	b.deliver(p)
	require.True(t, b.a.last(t, bill).GetDeleted())

	first := b.b.count()
	require.NoError(t, b.store.Redis().Del(t.Context(), "lf:1:mark:{"+realm+"}:b:Bill").Err())
	require.NoError(t, b.conn.PublishRetry(t.Context(), "b", created(t, made)))
	b.settle(p)
	require.Greater(t, b.b.count(), first)
	require.True(t, b.b.last(t, bill).GetDeleted())
	require.Zero(t, b.sim.Stats().CallsByKind["cdc"])
	require.Empty(t, b.dead())
}

// Where CDC has more to say than it can, the event of the deletion is waited for.
func TestProcessor_ATruncatedCDCIsNoReasonToGiveUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gone := b.create("Bill", nil)
	made := created(t, b.webhooks())
	require.NoError(t, b.sim.Delete(gone))
	deleted := b.webhooks()
	b.clock.Advance(time.Second)
	for range qbo.MaxObjects + 1 {
		b.create("Bill", nil)
	}
	others := b.webhooks()
	p := b.start()
	b.publish(made)
	require.Eventually(t, func() bool { return b.sim.Stats().CallsByKind["cdc"] > 4 }, patient, time.Millisecond)
	require.Empty(t, b.dead())
	b.publish(append(deleted, others...)...)
	b.settle(p)
	b.requireEqual()
	require.Empty(t, b.dead())
}
