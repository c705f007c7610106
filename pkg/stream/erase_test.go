package stream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Every stream has messages of two companies; those of one are erased, also the dead letters
// that only name it in their bytes.
func TestErase_TakesTheMessagesOfOneCompany(t *testing.T) {
	t.Parallel()
	c := setup(t).conn
	require.NoError(t, c.EnsureChanges(t.Context()))
	const realm, other = "9341453", "93414530" // the id of one begins with that of the other
	for _, r := range []string{realm, other} {
		env := envelope.New(ledgerfeedv1.Source_SOURCE_WEBHOOK, r, "seed", []*ledgerfeedv1.Event{{Id: "e", Entity: "Invoice", EntityId: "1"}}, envelope.Meta{App: "app"})[0]
		require.NoError(t, c.Publish(t.Context(), env))
		require.NoError(t, c.PublishRetry(t.Context(), "crm", env))
		require.NoError(t, c.PublishDeadWaiting(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnknownSink, RealmID: r, Envelope: env, At: time.Now()}))
		require.NoError(t, c.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonNotFound, RealmID: r, Envelope: env, At: time.Now()}))
		require.NoError(t, c.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte(`[{"realmId":"` + r + `"`), At: time.Now()}))
		require.NoError(t, c.PublishGaps(t.Context(), stream.GapMessage{RealmID: r, ID: r, Data: []byte("[]")}))
		require.NoError(t, c.PublishChanges(t.Context(), stream.ChangeMessage{RealmID: r, Entity: "Invoice", ID: r, Data: []byte("{}")})[0])
	}
	without := map[string]uint64{stream.EventStream: 1, stream.RetryStream: 2, stream.DeadStream: 2, stream.GapStream: 1}
	got, err := c.EraseRealm(t.Context(), realm, false, true)
	require.NoError(t, err)
	require.Equal(t, without, got)
	all := map[string]uint64{stream.EventStream: 1, stream.RetryStream: 2, stream.DeadStream: 2, stream.GapStream: 1, stream.ChangeStream: 1}
	for range 2 { // counted twice, nothing was deleted
		got, err = c.EraseRealm(t.Context(), realm, true, true)
		require.NoError(t, err)
		require.Equal(t, all, got)
	}
	got, err = c.EraseRealm(t.Context(), realm, true, false)
	require.NoError(t, err)
	require.Equal(t, all, got)
	got, err = c.EraseRealm(t.Context(), realm, true, false)
	require.NoError(t, err)
	for name, n := range got {
		require.Zero(t, n, name)
	}
	got, err = c.EraseRealm(t.Context(), other, true, true)
	require.NoError(t, err)
	require.Equal(t, all, got, "the other company has all of its messages")
}
