package stream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	cloudEvent = `{"specversion":"1.0","id":"88cd52aa-33b6-4351-9aa4-47572edbd068","source":"intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=","type":"qbo.customer.created.v1","datacontenttype":"application/json","time":"2025-09-10T21:31:25.179453Z","intuitentityid":"1234","intuitaccountid":"310687","data":{}}`
	legacyItem = `{"name":"Invoice","id":"145","operation":"Update","lastUpdated":"2025-09-10T21:31:25.000Z"}`
)

// bury stores d and returns it as it is read.
func (b *bundle) bury(t *testing.T, d stream.DeadLetter) stream.DeadLetter {
	t.Helper()
	require.NoError(t, b.conn.PublishDead(t.Context(), d))
	return newest(t, b.conn, 1)[0]
}

// requeued are the envelopes on the event stream.
func (b *bundle) requeued(t *testing.T) []*ledgerfeedv1.Envelope {
	t.Helper()
	s, err := b.js.Stream(t.Context(), "LF_EVENTS")
	require.NoError(t, err)
	var all []*ledgerfeedv1.Envelope
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		e, err := envelope.Decode(m.Data)
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

func TestConn_RequeueIsAReplayForTheSinkOfTheLetter(t *testing.T) {
	b := setup(t)
	e := env("310687", 7)
	e.App, e.IntuitTid = "main", "1-abc"
	require.NoError(t, b.conn.Publish(t.Context(), e), "within the broker's window for duplicates")
	d := b.bury(t, stream.DeadLetter{
		Reason: stream.ReasonSinkRefused, Sink: "crm", RealmID: "310687", Envelope: e, Attempts: 3,
		FirstSeen: at.Add(-time.Hour), At: at, Detail: "last", FirstError: "first",
	})

	n, err := b.conn.Requeue(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got := b.requeued(t)
	require.Len(t, got, 2)
	require.NotEqual(t, e.GetId(), got[1].GetId())
	require.Equal(t, ledgerfeedv1.Source_SOURCE_REPLAY, got[1].GetSource())
	require.Equal(t, "crm", got[1].GetSink())
	require.Equal(t, "main", got[1].GetApp())
	require.Equal(t, "1-abc", got[1].GetIntuitTid())
	require.Empty(t, diff(e.GetEvents(), got[1].GetEvents()))
	require.Empty(t, newest(t, b.conn, 1))

	c := consume(t, b.conn)
	c.next(t)
	m := c.next(t)
	require.Equal(t, stream.History{Attempts: 3, FirstSeen: at.Add(-time.Hour), FirstError: "first"}, m.History())
	require.NoError(t, b.conn.Dead(t.Context(), m, stream.DeadLetter{Reason: stream.ReasonPoison, Detail: "again"}))
	again := newest(t, b.conn, 1)[0]
	require.Equal(t, 4, again.Attempts)
	require.Equal(t, "first", again.FirstError)
	require.Equal(t, "again", again.Detail)
	require.Equal(t, "crm", again.Sink)
	require.Equal(t, at.Add(-time.Hour), again.FirstSeen)
	c.stop(t)
}

// The same events dead again within the window for duplicates are another letter,
// and its requeue is not dropped either.
func TestConn_RequeueOfTheNextLetterIsNotDropped(t *testing.T) {
	b := setup(t)
	for i := range 3 {
		d := b.bury(t, stream.DeadLetter{ID: fmt.Sprint("message ", i), Reason: stream.ReasonPoison, RealmID: "1", Envelope: env("1", 1), At: at})
		_, err := b.conn.Requeue(t.Context(), d)
		require.NoError(t, err)
	}
	require.EqualValues(t, 3, b.stored(t, "LF_EVENTS"))
	require.Empty(t, newest(t, b.conn, 10))
}

// I2: the broker is gone after it has stored the events and before it has deleted
// the letter. The letter stays, and its requeue may be repeated.
func TestConn_RequeueCutOffBetweenPublishAndDeleteLosesNothing(t *testing.T) {
	b, proxy := proxied(t)
	require.NoError(t, b.conn.PublishDead(t.Context(), letter(1)))
	d := newest(t, b.conn, 1)[0]
	proxy.Mute()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.conn.Requeue(ctx, d)
		ended <- err
	}()
	require.Eventually(t, func() bool { return b.stored(t, "LF_EVENTS") == 1 }, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, stream.ErrNotDurable)
	require.EqualValues(t, 1, b.stored(t, "LF_DEAD"), "not acknowledged, not deleted")
	proxy.Unmute()

	require.Eventually(t, func() bool {
		_, err := b.conn.Requeue(t.Context(), d)
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	require.EqualValues(t, 1, b.stored(t, "LF_EVENTS"), "the broker knows that it has them")
	require.EqualValues(t, 0, b.stored(t, "LF_DEAD"))
}

func TestConn_RequeueWithoutRoomKeepsTheLetter(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	long := strings.Repeat("9", 100<<10)
	for i := 0; ; i++ {
		e := env("1", i)
		e.Events[0].EntityId = fmt.Sprint(i, long)
		if err := b.conn.Publish(t.Context(), e); err != nil {
			require.ErrorIs(t, err, stream.ErrFull)
			break
		}
	}
	big := env("1", 0)
	big.Events[0].EntityId = long
	d := b.bury(t, stream.DeadLetter{Reason: stream.ReasonPoison, RealmID: "1", Envelope: big, At: at})
	_, err := b.conn.Requeue(t.Context(), d)
	require.ErrorIs(t, err, stream.ErrFull)
	require.Len(t, newest(t, b.conn, 10), 1)
}

// What could not be read once is read again: the parser may have learned to.
func TestConn_RequeueReadsRawBytesAgain(t *testing.T) {
	encoded, err := envelope.Encode(env("310687", 7))
	require.NoError(t, err)
	for _, tc := range []struct {
		name   string
		letter stream.DeadLetter
		want   []string
	}{
		{"a body", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("[" + cloudEvent + "]")}, []string{"310687 Customer/1234"}},
		{"an item", stream.DeadLetter{Reason: stream.ReasonUnreadable, RealmID: "310687", Body: []byte(cloudEvent)}, []string{"310687 Customer/1234"}},
		{"a legacy item", stream.DeadLetter{Reason: stream.ReasonUnreadable, RealmID: "310687", Body: []byte(legacyItem)}, []string{"310687 Invoice/145"}},
		{"two companies", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte(
			"[" + cloudEvent + "," + strings.ReplaceAll(cloudEvent, "310687", "310688") + "]")}, []string{"310687 Customer/1234", "310688 Customer/1234"}},
		{"an envelope", stream.DeadLetter{Reason: stream.ReasonInvalidEnvelope, Body: encoded}, []string{"310687 Invoice/7"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := setup(t)
			tc.letter.App, tc.letter.At = "main", at
			n, err := b.conn.Requeue(t.Context(), b.bury(t, tc.letter))
			require.NoError(t, err)
			require.Equal(t, len(tc.want), n)
			var got []string
			for _, e := range b.requeued(t) {
				require.Equal(t, ledgerfeedv1.Source_SOURCE_REPLAY, e.GetSource())
				require.Equal(t, "main", e.GetApp())
				for _, event := range e.GetEvents() {
					got = append(got, fmt.Sprintf("%s %s/%s", e.GetRealmId(), event.GetEntity(), event.GetEntityId()))
				}
			}
			require.Equal(t, tc.want, got)
			require.Empty(t, newest(t, b.conn, 1))
		})
	}
}

func TestConn_RequeueSaysWhatCannotBeRead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		letter stream.DeadLetter
		events int
		want   string
	}{
		{"no JSON", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("{hello")}, 0, "not JSON"},
		{"no event", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("[]")}, 0, "it contains no event"},
		{"of nobody", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte(legacyItem)}, 0, "neither CloudEvents nor eventNotifications"},
		{"a part", stream.DeadLetter{Reason: stream.ReasonUnreadable, Detail: "part 1 of 2: not JSON", Body: []byte("[" + cloudEvent)}, 0, "part 1 of 2"},
		{"no envelope", stream.DeadLetter{Reason: stream.ReasonInvalidEnvelope, Body: []byte("?")}, 0, "not a protobuf envelope"},
		{"half of it", stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("[" + cloudEvent + ",7]")}, 1, "1 of its 2 items"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := setup(t)
			n, err := b.conn.Requeue(t.Context(), b.bury(t, tc.letter))
			require.ErrorIs(t, err, stream.ErrUnreadable)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "dead letter 1 stays")
			require.Equal(t, tc.events, n)
			require.EqualValues(t, tc.events, b.stored(t, "LF_EVENTS"))
			require.EqualValues(t, 1, b.stored(t, "LF_DEAD"))
		})
	}
}

func TestConn_RetriesCarryTheirHistory(t *testing.T) {
	b := setup(t)
	past := stream.History{Attempts: 5, FirstSeen: at, FirstError: "it said \"no\"\n "}
	require.NoError(t, b.conn.PublishRetryWith(t.Context(), "crm", env("1", 1), past))
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.Queue, o.Durable = stream.Retry("crm"), "crm" })
	m := c.next(t)
	require.Equal(t, past, m.History())
	require.Equal(t, 6, m.Attempts())
	require.Equal(t, at, m.FirstSeen())
	c.stop(t)

	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1)))
	c = consume(t, b.conn)
	m = c.next(t)
	require.Equal(t, stream.History{}, m.History())
	require.Equal(t, 1, m.Attempts())
	require.Equal(t, m.Published(), m.FirstSeen())
	c.stop(t)
}
