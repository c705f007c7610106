package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var at = time.Date(2026, 11, 20, 9, 30, 0, 123456789, time.UTC)

func letter(n int) stream.DeadLetter {
	return stream.DeadLetter{
		Reason: stream.ReasonSinkRefused, Detail: "column \"x\" is missing\nin table invoices", RealmID: "310687", App: "main",
		Sink: "postgres", Body: []byte(fmt.Sprintf("raw %d \x00\xff\r\n ", n)), Envelope: env("310687", n),
		Attempts: 4, FirstSeen: at.Add(-time.Hour), At: at,
	}
}

func newest(t *testing.T, conn *stream.Conn, limit int) []stream.DeadLetter {
	t.Helper()
	all, err := conn.DeadLetters(t.Context(), limit)
	require.NoError(t, err)
	return all
}

func diff(want, got any) string { return cmp.Diff(want, got, protocmp.Transform()) }

func TestConn_DeadLettersAreReadAsTheyWereWritten(t *testing.T) {
	b := setup(t)
	full := letter(1)
	full.ID = "an id"
	bodyOnly := stream.DeadLetter{ID: "2", Reason: stream.ReasonUnreadable, Body: []byte(`{"a":1}`), At: at}
	envelopeOnly := stream.DeadLetter{ID: "3", Reason: stream.ReasonRealmNotConnected, RealmID: "1", Envelope: env("1", 1), At: at}
	want := []stream.DeadLetter{envelopeOnly, bodyOnly, full}
	for i := range want {
		require.NoError(t, b.conn.PublishDead(t.Context(), want[len(want)-1-i]))
		want[len(want)-1-i].Seq = uint64(i + 1)
	}
	require.Empty(t, diff(want, newest(t, b.conn, 10)))

	s, err := b.js.Stream(t.Context(), "LF_DEAD")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "lf.dead.sink-refused.310687", m.Subject)
	require.Equal(t, full.Body, m.Data, "the body is byte exact on the stream too")
	m, err = s.GetMsg(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, "lf.dead.unreadable._", m.Subject)

	counts, err := b.conn.DeadCounts(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[stream.Reason]uint64{"sink-refused": 1, "unreadable": 1, "realm-not-connected": 1}, counts)
}

// Whatever Intuit sends and whatever a sink answers, the letter keeps it.
func TestConn_DeadLettersKeepAnyText(t *testing.T) {
	b := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		want := stream.DeadLetter{
			ID: rapid.StringN(1, 50, 100).Draw(rt, "id"), Reason: stream.ReasonUnreadable, At: at,
			Detail: rapid.String().Draw(rt, "detail"), RealmID: rapid.String().Draw(rt, "realm"), App: rapid.String().Draw(rt, "app"),
			Sink: rapid.String().Draw(rt, "sink"), Body: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(rt, "body"),
		}
		want.ID += fmt.Sprint(time.Now().UnixNano())
		require.NoError(t, b.conn.PublishDead(t.Context(), want))
		got := newest(t, b.conn, 1)[0]
		want.Seq = got.Seq
		require.Empty(t, diff(want, got))
	})
}

func TestConn_PublishDeadBoundsTheText(t *testing.T) {
	b := setup(t)
	d := letter(1)
	d.Detail, d.RealmID = strings.Repeat("d", 1<<20), strings.Repeat("9", 1<<20)
	require.NoError(t, b.conn.PublishDead(t.Context(), d))
	got := newest(t, b.conn, 1)[0]
	require.Len(t, got.Detail, 4<<10)
	require.Len(t, got.RealmID, 1<<10)
	require.Equal(t, d.Body, got.Body)
}

func TestConn_PublishDeadTakesBodiesUpToMaxBody(t *testing.T) {
	b := setup(t)
	require.Greater(t, b.conn.MaxBody(), 7<<20)
	d := stream.DeadLetter{Reason: stream.ReasonUnreadable, Detail: strings.Repeat("\n", 5000), RealmID: strings.Repeat("é", 5000), Body: make([]byte, b.conn.MaxBody())}
	require.NoError(t, b.conn.PublishDead(t.Context(), d))
	d.Body = make([]byte, b.conn.MaxBody()+64<<10)
	require.ErrorIs(t, b.conn.PublishDead(t.Context(), d), stream.ErrTooLarge)
}

func TestConn_PublishDeadTwiceIsStoredOnce(t *testing.T) {
	b := setup(t)
	d := letter(1)
	d.ID = "LF_EVENTS/7"
	require.NoError(t, b.conn.PublishDead(t.Context(), d))
	d.Attempts, d.At, d.Detail = 9, at.Add(time.Minute), "in other words"
	require.NoError(t, b.conn.PublishDead(t.Context(), d), "the same content later")
	for _, change := range []func(*stream.DeadLetter){
		func(d *stream.DeadLetter) { d.Body = []byte("other") },
		func(d *stream.DeadLetter) { d.Envelope = env("310687", 2) },
		func(d *stream.DeadLetter) { d.Sink = "jsonl" },
		func(d *stream.DeadLetter) { d.ID = "LF_EVENTS/8" },
		func(d *stream.DeadLetter) { d.Reason = stream.ReasonPoison },
	} {
		other := d
		change(&other)
		require.NoError(t, b.conn.PublishDead(t.Context(), other))
	}
	require.EqualValues(t, 6, b.stored(t, "LF_DEAD"))
}

func TestConn_DeadLettersNewestFirstOverGaps(t *testing.T) {
	b := setup(t)
	require.Empty(t, newest(t, b.conn, 10))
	for i := range 40 {
		require.NoError(t, b.conn.PublishDead(t.Context(), letter(i)))
	}
	for seq := uint64(1); seq <= 40; seq++ {
		if seq%8 != 0 {
			require.NoError(t, b.conn.DeleteDead(t.Context(), seq))
		}
	}
	seqs := func(limit int) []uint64 {
		var out []uint64
		for _, d := range newest(t, b.conn, limit) {
			out = append(out, d.Seq)
		}
		return out
	}
	require.Equal(t, []uint64{40, 32, 24}, seqs(3))
	require.Equal(t, []uint64{40, 32, 24, 16, 8}, seqs(100))
	require.Equal(t, []uint64{40}, seqs(1))
	require.Empty(t, seqs(0))

	d, err := b.conn.DeadLetter(t.Context(), 16)
	require.NoError(t, err)
	require.EqualValues(t, 16, d.Seq)
	_, err = b.conn.DeadLetter(t.Context(), 17)
	require.ErrorIs(t, err, stream.ErrNoDeadLetter)
	require.NoError(t, b.conn.DeleteDead(t.Context(), 17), "gone is gone")
}

func TestConn_DeadLettersShowWhatOthersPutThere(t *testing.T) {
	b := setup(t)
	_, err := b.js.PublishMsg(t.Context(), &nats.Msg{
		Subject: "lf.dead.x.y", Data: []byte("?"), Header: nats.Header{"Ledgerfeed-At": {"noon"}, "Ledgerfeed-Detail": {`"half`}, "Ledgerfeed-Content": {"envelope"}},
	})
	require.NoError(t, err)
	got := newest(t, b.conn, 1)[0]
	require.Equal(t, []byte("?"), got.Body)
	require.Equal(t, `"half`, got.Detail)
	require.WithinDuration(t, time.Now(), got.At, time.Minute)
}

func TestConn_DeadFillsInWhatTheMessageKnows(t *testing.T) {
	b := setup(t)
	e := env("310687", 1)
	e.App = "main"
	require.NoError(t, b.conn.Publish(t.Context(), e))
	_, err := b.js.Publish(t.Context(), "lf.event.00.1", []byte("no envelope"))
	require.NoError(t, err)
	c := consume(t, b.conn)
	require.NoError(t, b.conn.Dead(t.Context(), c.next(t), stream.DeadLetter{Reason: stream.ReasonPoison}))
	require.NoError(t, b.conn.Dead(t.Context(), c.next(t), stream.DeadLetter{Reason: stream.ReasonInvalidEnvelope}))
	require.Eventually(t, func() bool { return b.stored(t, "LF_EVENTS") == 0 }, 5*time.Second, 5*time.Millisecond)
	c.stop(t)

	got := newest(t, b.conn, 2)
	require.Equal(t, []byte("no envelope"), got[0].Body)
	require.Nil(t, got[0].Envelope)
	require.Empty(t, diff(e, got[1].Envelope))
	require.Empty(t, got[1].Body)
	require.Equal(t, "310687", got[1].RealmID)
	require.Equal(t, "main", got[1].App)
	require.Equal(t, 1, got[1].Attempts)
	require.WithinDuration(t, time.Now(), got[1].FirstSeen, time.Minute)
}

// I2: no room for the letter, so the message stays in its queue.
func TestConn_DeadKeepsTheMessageUntilTheLetterIsStored(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.DeadMaxBytes = 1 << 20 })
	d := stream.DeadLetter{Reason: stream.ReasonPoison, Body: []byte(strings.Repeat("p", 100<<10))}
	fill := d
	for i := 0; ; i++ {
		fill.Body = []byte(strings.Repeat(string(rune('a'+i)), 100<<10))
		if err := b.conn.PublishDead(t.Context(), fill); err != nil {
			require.ErrorIs(t, err, stream.ErrFull)
			break
		}
	}
	b.publish(t, 1)
	c := consume(t, b.conn)
	m := c.next(t)
	err := b.conn.Dead(t.Context(), m, d)
	require.ErrorIs(t, err, stream.ErrFull)
	require.ErrorIs(t, err, stream.ErrNotDurable)
	require.NoError(t, m.Nak(time.Millisecond))
	m = c.next(t)
	require.Equal(t, 2, m.Delivered())

	require.NoError(t, b.conn.DeleteDead(t.Context(), 1))
	require.NoError(t, b.conn.Dead(t.Context(), m, d))
	require.Equal(t, stream.ReasonPoison, newest(t, b.conn, 1)[0].Reason)
	c.stop(t)
}

// A crash between the letter and the Term: the message comes again, and its
// second letter is the same one.
func TestConn_DeadRepeatedAfterACrashIsStoredOnce(t *testing.T) {
	b, proxy := proxied(t)
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1)))
	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.AckWait = 500 * time.Millisecond })
	m := c.next(t)
	proxy.Mute()
	require.ErrorIs(t, b.conn.Dead(within(t, 100*time.Millisecond), m, stream.DeadLetter{Reason: stream.ReasonPoison}), stream.ErrNotDurable)
	require.Eventually(t, func() bool { return b.stored(t, "LF_DEAD") == 1 }, 5*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, b.stored(t, "LF_EVENTS"))
	proxy.Unmute()

	again := c.next(t)
	require.Equal(t, m.ID(), again.ID())
	require.NoError(t, b.conn.Dead(t.Context(), again, stream.DeadLetter{Reason: stream.ReasonPoison}))
	require.Eventually(t, func() bool { return b.stored(t, "LF_EVENTS") == 0 }, 5*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, b.stored(t, "LF_DEAD"))
	c.stop(t)
}

// The same envelope replayed and dead again within the broker's window for
// duplicates is another letter: the first one may be deleted by then.
func TestConn_DeadAgainAfterAReplayIsAnotherLetter(t *testing.T) {
	b := setup(t)
	c := consume(t, b.conn)
	for i := range 2 {
		e := env("1", 1)
		e.Id = fmt.Sprint("replay ", i)
		e.Source = ledgerfeedv1.Source_SOURCE_REPLAY
		require.NoError(t, b.conn.Publish(t.Context(), e))
		e.Id = "same"
		require.NoError(t, b.conn.Dead(t.Context(), c.next(t), stream.DeadLetter{Reason: stream.ReasonPoison, Envelope: e, At: at, FirstSeen: at}))
	}
	require.EqualValues(t, 2, b.stored(t, "LF_DEAD"))
	c.stop(t)
}
