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

func smallDead(c *stream.Config) { c.DeadMaxBytes = 1 << 20 }

// fill publishes letters of a reason until there is no room, and returns how many bytes
// of bodies that were.
func (b *bundle) fill(t *testing.T, conn *stream.Conn, reason stream.Reason, size int, realmOf func(int) string) (bytes int) {
	t.Helper()
	for i := 0; ; i++ {
		body := fmt.Sprint(i, strings.Repeat("x", size))
		_, err := conn.StoreDead(t.Context(), stream.DeadLetter{Reason: reason, RealmID: realmOf(i), Body: []byte(body), At: at})
		if err != nil {
			require.ErrorIs(t, err, stream.ErrFull)
			return bytes
		}
		bytes += len(body)
		require.Less(t, bytes, 2<<20, "it never ends")
	}
}

func realms(i int) string { return fmt.Sprint(100 + i) }

func only(realm string) func(int) string { return func(int) string { return realm } }

// No reason and no company takes the room of the others.
func TestConn_LettersHaveSharesOfTheirStream(t *testing.T) {
	t.Parallel()
	b := setup(t, smallDead)
	one := b.fill(t, b.conn, stream.ReasonPoison, 1000, only("1"))
	require.InDelta(t, (1<<20)/8, one, (1<<20)/16, "a company")
	again := b.fill(t, b.conn, stream.ReasonSinkRefused, 1000, only("1"))
	require.Zero(t, again, "whatever the reason")
	all := one + b.fill(t, b.conn, stream.ReasonPoison, 1000, realms)
	require.InDelta(t, (1<<20)/2, all, (1<<20)/8, "a reason")
	all += b.fill(t, b.conn, stream.ReasonSinkRefused, 1000, realms)
	all += b.fill(t, b.conn, stream.ReasonNotFound, 1000, realms)
	require.InDelta(t, (1<<20)/4*3, all, (1<<20)/5, "all but what nobody could read")

	// Another process knows as much.
	other := connect(t, b.url, smallDead)
	require.Zero(t, b.fill(t, other, stream.ReasonPoison, 1000, realms))
	letter, err := other.StoreDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("?"), At: at})
	require.NoError(t, err)
	require.NotZero(t, letter)
}

// Large letters of one reason do not make small ones of another look large.
func TestConn_SharesAreOfBytes(t *testing.T) {
	t.Parallel()
	b := setup(t, smallDead)
	for i := range 300 {
		require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonPoison, RealmID: realms(i), Body: []byte(realms(i)), At: at}))
	}
	for i := range 3 {
		require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonSinkRefused, RealmID: realms(i), Body: []byte(strings.Repeat(fmt.Sprint(i), 100<<10)), At: at}))
	}
	other := connect(t, b.url, smallDead)
	_, err := other.StoreDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonPoison, RealmID: "x", Body: []byte(strings.Repeat("p", 100<<10)), At: at})
	require.NoError(t, err, "300 letters of 300 bytes are a tenth of the stream")
	_, err = other.StoreDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonSinkRefused, RealmID: "y", Body: []byte(strings.Repeat("p", 100<<10)), At: at})
	require.NoError(t, err)
	_, err = other.StoreDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonSinkRefused, RealmID: "z", Body: []byte(strings.Repeat("p", 128<<10)), At: at})
	require.ErrorIs(t, err, stream.ErrFull)
}

// A sink that is down leaves room on the retry stream for the others.
func TestConn_SinksHaveSharesOfTheRetryStream(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *stream.Config) { c.RetryMaxBytes = 1 << 20 })
	large := func(n int) *ledgerfeedv1.Envelope {
		e := env(realms(n), n)
		e.Events[0].EntityId = strings.Repeat("x", 10<<10)
		return envelope.New(ledgerfeedv1.Source_SOURCE_CDC, realms(n), "s", e.Events, envelope.Meta{})[0]
	}
	n, err := 0, error(nil)
	for ; err == nil; n++ {
		err = b.conn.PublishRetry(t.Context(), "down", large(n))
	}
	require.ErrorIs(t, err, stream.ErrFull)
	require.Greater(t, n, 60)
	require.Less(t, n, 90)
	require.NoError(t, b.conn.PublishRetry(t.Context(), "hiccup", large(1)))
}

// A body that cannot be read has no room among the letters: it waits, and is durable.
func TestConn_AnUnreadableLetterWaitsForRoom(t *testing.T) {
	t.Parallel()
	b := setup(t, smallDead)
	d := stream.DeadLetter{
		Reason: stream.ReasonUnreadable, Detail: "why", App: "main", RealmID: "ñ", Body: []byte("\x00?"), Attempts: 1, FirstSeen: at, At: at,
	}
	var waiting uint64
	for i := 0; waiting == 0; i++ {
		fill := d
		fill.Body = []byte(strings.Repeat(string(rune('a'+i%26)), 30<<10))
		fill.ID, fill.RealmID = fmt.Sprint(i), ""
		letter, err := b.conn.StoreDead(t.Context(), fill)
		require.NoError(t, err)
		if letter == 0 {
			waiting++
		}
	}
	letter, err := b.conn.StoreDead(t.Context(), d)
	if letter > 0 { // it is small enough for what is left
		d.Body = []byte(strings.Repeat("?", 40<<10))
		letter, err = b.conn.StoreDead(t.Context(), d)
	}
	require.NoError(t, err)
	require.Zero(t, letter)
	require.EqualValues(t, 2, b.stored(t, "LF_RETRY"))

	c := consume(t, b.conn, func(o *stream.ConsumeOptions) { o.Queue, o.Durable = stream.Waiting, "waiting" })
	first, second := c.next(t), c.next(t)
	_, ok := first.Letter()
	require.True(t, ok)
	got, ok := second.Letter()
	require.True(t, ok)
	require.ErrorIs(t, b.conn.MoveDead(t.Context(), second, got), stream.ErrFull)
	for seq := uint64(1); seq < 8; seq++ {
		require.NoError(t, b.conn.DeleteDead(t.Context(), seq))
	}
	require.NoError(t, b.conn.MoveDead(t.Context(), second, got))
	require.EqualValues(t, 1, b.stored(t, "LF_RETRY"))
	moved := newest(t, b.conn, 1)[0]
	moved.Seq = 0
	require.Empty(t, diff(d, moved))
	c.stop(t)
}

// The number of a letter that is stored twice is that of the one there is.
func TestConn_StoreDeadTellsTheNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e := env("310687", 7)
	d := stream.DeadLetter{ID: "1", Reason: stream.ReasonSinkRefused, RealmID: "310687", Sink: "crm", Envelope: e, At: at}
	require.NoError(t, b.conn.PublishDead(t.Context(), stream.DeadLetter{Reason: stream.ReasonPoison, Body: []byte("x"), At: at}))
	for range 2 {
		letter, err := b.conn.StoreDead(t.Context(), d)
		require.NoError(t, err)
		require.EqualValues(t, 2, letter)
	}
	has := func(letter uint64, realm, sink, name, id string) bool {
		is, err := b.conn.HasDead(t.Context(), letter, realm, sink, name, id)
		require.NoError(t, err)
		return is
	}
	require.True(t, has(2, "310687", "crm", "Invoice", "7"))
	require.False(t, has(2, "310688", "crm", "Invoice", "7"))
	require.False(t, has(2, "310687", "pg", "Invoice", "7"))
	require.False(t, has(2, "310687", "crm", "Bill", "7"))
	require.False(t, has(2, "310687", "crm", "Invoice", "8"))
	require.False(t, has(1, "310687", "crm", "Invoice", "7"))
	require.False(t, has(3, "310687", "crm", "Invoice", "7"))
	require.NoError(t, b.conn.DeleteDead(t.Context(), 2))
	require.False(t, has(2, "310687", "crm", "Invoice", "7"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err := b.conn.HasDead(ctx, 1, "310687", "crm", "Invoice", "7")
	require.Error(t, err)
}
