package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProcessor_APausedSinkWaitsAndIsResumed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.store.PauseSink(t.Context(), "b"))
	b.create("Bill", nil)
	b.start()
	b.publish(b.webhooks()...)
	require.Eventually(t, func() bool { return b.a.count() == 1 }, patient, 10*time.Millisecond, "the other sink goes on")
	time.Sleep(1500 * time.Millisecond) // longer than the first retry takes
	require.Zero(t, b.b.count())

	require.NoError(t, b.store.ResumeSink(t.Context(), "b"))
	require.Eventually(t, func() bool { return b.b.count() == 1 }, patient, 10*time.Millisecond)
	require.Empty(t, b.dead(), "a pause costs no change")
	b.requireEqual()
}
