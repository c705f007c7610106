package action_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

func TestMain(m *testing.M) {
	// What a nats-server of these tests leaves behind at times when it is stopped in the
	// middle of something: nothing of ours runs in them.
	broker := "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction(broker+"/ats.Register.func1"),
		goleak.IgnoreTopFunction(broker+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(broker+".(*msgBlock).flushLoop"),
	)
}

type bundle struct {
	*testing.T
	conn  *stream.Conn
	store *state.Store
	logs  *observer.ObservedLogs
	away  atomic.Bool // NATS, for the trails
}

func setup(t *testing.T, edit ...func(*stream.Config)) *bundle {
	t.Helper()
	c := stream.DefaultConfig()
	c.URL, c.Profile = devtest.NATS(t), stream.Dev
	c.ActionsMaxBytes = 8 << 20
	for _, e := range edit {
		e(&c)
	}
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c, Name: t.Name()})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.Redis(t))}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return &bundle{T: t, conn: conn, store: store}
}

var errAway = errors.New("NATS is away")

// trail is one of a process of its own.
func (b *bundle) trail() *action.Trail {
	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	t := action.New(action.Options{
		Stream: func(context.Context) (*stream.Conn, error) {
			if b.away.Load() {
				return nil, errAway
			}
			return b.conn, nil
		},
		State:  func(context.Context) (*state.Store, error) { return b.store, nil },
		Logger: zap.New(core),
	})
	b.Cleanup(t.Close)
	return t
}

func (b *bundle) newest() []action.Stored {
	b.Helper()
	entries, err := action.Newest(b.Context(), b.conn, b.store, 0, 1000)
	require.NoError(b, err)
	return entries
}

func pause(sink string) action.Entry {
	return action.Entry{Who: "operator (token)", Role: "operator", Via: action.Console, From: "203.0.113.7", Request: "REQ", What: "pause", On: "sink " + sink, Outcome: "done"}
}

func TestTrail_KeepsWhoDidWhat(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trail := b.trail()
	trail.Record(t.Context(), pause("crm"))
	trail.Record(t.Context(), pause("books"))
	got := b.newest()
	require.Len(t, got, 2)
	require.Equal(t, "sink books", got[0].On)
	require.Equal(t, "203.0.113.7", got[1].From)
	require.Equal(t, got[1].Hash, got[0].Prev)
	require.Empty(t, got[1].Prev)
	require.WithinDuration(t, time.Now(), got[0].At, time.Minute)
	// The line has the same, whatever becomes of the stream.
	lines := b.logs.FilterMessage("action").All()
	require.Len(t, lines, 2)
	require.Equal(t, zapcore.InfoLevel, lines[0].Level)
	for key, want := range map[string]any{"who": "operator (token)", "address": "203.0.113.7", "request_id": "REQ", "what": "pause", "on": "sink crm", "outcome": "done", "via": "console"} {
		require.Equal(t, want, lines[0].ContextMap()[key])
	}
}

// Processes that write at the same time make one chain without a fork.
func TestTrail_ConcurrentWritersMakeOneChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const writers, each = 6, 15
	var all sync.WaitGroup
	for w := range writers {
		trail := b.trail()
		all.Go(func() {
			for i := range each {
				trail.Record(context.Background(), pause(fmt.Sprint(w, "-", i)))
			}
		})
	}
	all.Wait()
	chain, err := action.Verify(t.Context(), b.conn)
	require.NoError(t, err)
	require.Equal(t, writers*each, chain.Entries)
	require.EqualValues(t, writers*each, chain.Last)
}

// raw appends bytes as somebody does who may publish to the stream.
func (b *bundle) raw(encode func(last *stream.StoredAction) ([]byte, error)) {
	b.Helper()
	_, err := b.conn.AppendAction(b.Context(), stream.ActionMessage{ID: fmt.Sprint(time.Now().UnixNano()), Encode: encode})
	require.NoError(b, err)
}

func TestVerify_NamesTheEntryThatDoesNotFollow(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(*stream.StoredAction) ([]byte, error){
		"another hash": func(*stream.StoredAction) ([]byte, error) {
			return json.Marshal(action.Entry{ID: "x", Who: "nobody", What: "nothing", Outcome: "done", Prev: "00ff"})
		},
		"no hash":   func(*stream.StoredAction) ([]byte, error) { return []byte(`{"id":"x","who":"nobody"}`), nil },
		"a copy":    func(last *stream.StoredAction) ([]byte, error) { return last.Data, nil },
		"no entry":  func(*stream.StoredAction) ([]byte, error) { return []byte("x"), nil },
		"no letter": func(*stream.StoredAction) ([]byte, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			trail := b.trail()
			trail.Record(t.Context(), pause("crm"))
			trail.Record(t.Context(), pause("crm"))
			whole, err := action.Verify(t.Context(), b.conn)
			require.NoError(t, err)
			_, err = action.Verify(t.Context(), b.conn, whole.Hash)
			require.NoError(t, err)
			_, err = action.Verify(t.Context(), b.conn, whole.Hash, "0123")
			require.ErrorIs(t, err, action.ErrNoHash)
			b.raw(forge)
			trail.Record(t.Context(), pause("crm"))
			var broken *action.BrokenError
			_, err = action.Verify(t.Context(), b.conn)
			require.ErrorAs(t, err, &broken)
			require.EqualValues(t, 3, broken.Seq)
		})
	}
}

// A viewer who is refused ten thousand times leaves two entries, and pushes out nobody's.
func TestTrail_RefusalsAreCountedByWhoIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trail := b.trail()
	trail.Record(t.Context(), pause("crm"))
	viewer := action.Entry{Who: "viewer (token)", Role: "viewer", From: "203.0.113.8", What: "POST /sinks/:sink/pause", Outcome: "refused"}
	for range 10_400 {
		trail.Refuse(viewer)
	}
	trail.Close()
	got := b.newest()
	require.Len(t, got, 3)
	require.Equal(t, 10_399, got[0].Count)
	require.Equal(t, 1, got[1].Count)
	require.False(t, got[0].Since.IsZero())
	require.Equal(t, "sink crm", got[2].On, "the operator's action is still there")
	require.LessOrEqual(t, b.logs.FilterMessage("action").Len(), 3, "nor is the log flooded")
}

// Nor do a thousand addresses fill it.
func TestTrail_ManyWhoAreRefusedAreOneEntry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trail := b.trail()
	for i := range 1000 {
		trail.Refuse(action.Entry{Who: "nobody", From: fmt.Sprint("198.51.100.", i), What: "login", Outcome: "refused: wrong token"})
	}
	trail.Close()
	got := b.newest()
	require.LessOrEqual(t, len(got), 17)
	sum := 0
	for _, e := range got {
		sum += e.Count
	}
	require.Equal(t, 1000, sum)
}

// Refusals leave the last quarter of the stream to actions.
func TestTrail_RefusalsLeaveRoomForActions(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *stream.Config) { c.ActionsMaxBytes = 1 << 20 })
	for full := false; !full; {
		_, err := b.conn.AppendAction(t.Context(), stream.ActionMessage{
			ID: fmt.Sprint(time.Now().UnixNano()), Minor: true,
			Encode: func(*stream.StoredAction) ([]byte, error) { return make([]byte, 64<<10), nil },
		})
		full = errors.Is(err, stream.ErrFull)
		require.True(t, full || err == nil, err)
	}
	trail := b.trail()
	trail.Refuse(action.Entry{Who: "nobody", What: "login", Outcome: "refused"})
	before, err := b.conn.CountActions(t.Context())
	require.NoError(t, err)
	trail.Record(t.Context(), pause("crm"))
	after, err := b.conn.CountActions(t.Context())
	require.NoError(t, err)
	require.Equal(t, before+1, after)
	waiting, err := b.store.QueuedActions(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, waiting, "the refusal is in the log alone")
}

// While NATS is away an action waits in Redis, and is in the log at once.
func TestTrail_WaitsInRedisWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trail := b.trail()
	trail.Record(t.Context(), pause("first"))
	b.away.Store(true)
	trail.Record(t.Context(), pause("second"))
	require.Len(t, b.newest(), 1)
	require.Equal(t, 1, b.logs.FilterMessage("action waits in Redis until NATS answers").FilterLevelExact(zapcore.WarnLevel).Len())
	require.ErrorIs(t, trail.Drain(t.Context()), errAway)
	b.away.Store(false)
	// Two processes may do so at once.
	other := b.trail()
	require.NoError(t, trail.Drain(t.Context()))
	require.NoError(t, other.Drain(t.Context()))
	got := b.newest()
	require.Len(t, got, 2)
	require.Equal(t, "sink second", got[0].On)
	_, err := action.Verify(t.Context(), b.conn)
	require.NoError(t, err)
}

func TestTrail_WithoutServersItIsInTheLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	trail := action.New(action.Options{Logger: zap.New(core)})
	trail.Record(t.Context(), pause("crm"))
	trail.Close()
	line := logs.FilterMessage("action is in this log alone").FilterLevelExact(zapcore.ErrorLevel).All()
	require.Len(t, line, 1)
	require.Equal(t, "sink crm", line[0].ContextMap()["on"])
}

// What the version before kept in Redis is shown behind the rest.
func TestNewest_ShowsWhatAnEarlierVersionKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 3 {
		require.NoError(t, b.store.LogAction(t.Context(), state.Action{ID: fmt.Sprint(i), At: time.Unix(int64(i), 0), Who: "old", What: fmt.Sprint("old ", i), Outcome: "done"}))
	}
	trail := b.trail()
	trail.Record(t.Context(), pause("crm"))
	trail.Record(t.Context(), pause("books"))
	var what []string
	for _, page := range [][2]int{{0, 3}, {3, 3}} {
		entries, err := action.Newest(t.Context(), b.conn, b.store, page[0], page[1])
		require.NoError(t, err)
		for _, e := range entries {
			what = append(what, e.What)
		}
	}
	require.Equal(t, []string{"pause", "pause", "old 2", "old 1", "old 0"}, what)
}
