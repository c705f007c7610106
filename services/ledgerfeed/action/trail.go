package action

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// appendTime bounds how long an action waits for the broker.
	appendTime = 3 * time.Second
	queueTime  = 2 * time.Second
	// drainMost is how many waiting entries are appended at once, drainEvery how often.
	drainMost  = 100
	drainEvery = 30 * time.Second
)

// Options are what [New] needs. Stream and State may be nil: what cannot be stored is in
// the log alone then.
type Options struct {
	// Stream and State return connections, which the caller closes. State is asked when
	// the broker takes nothing.
	Stream func(ctx context.Context) (*stream.Conn, error)
	State  func(ctx context.Context) (*state.Store, error)
	Logger *zap.Logger
	Now    func() time.Time
}

// Trail is where actions are recorded. It is safe for concurrent use. Close it.
type Trail struct {
	o        Options
	log      *zap.Logger
	refusals *refusals

	mu sync.Mutex // held while one is appended, so that entries of one process keep their order
}

// New makes a trail; it connects to nothing yet.
func New(o Options) *Trail {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Trail{o: o, log: o.Logger}
	t.refusals = newRefusals(o.Now, func(e Entry) { t.store(context.Background(), e, true) })
	return t
}

// Close records the refusals that were only counted so far.
func (t *Trail) Close() { t.refusals.flush() }

// Record writes an action to the log and to the trail. It returns when the entry is
// stored, or queued, or neither could be done within some seconds; ctx need not live.
func (t *Trail) Record(ctx context.Context, e Entry) { t.store(ctx, t.filled(e), false) }

// Refuse records that a request was refused. What one sender repeats is counted, and
// recorded again every ten minutes.
func (t *Trail) Refuse(e Entry) { t.refusals.add(t.filled(e)) }

func (t *Trail) filled(e Entry) Entry {
	if e.ID == "" {
		e.ID = rand.Text()
	}
	if e.At.IsZero() {
		e.At = t.o.Now().UTC()
	}
	return e
}

func (t *Trail) store(ctx context.Context, e Entry, minor bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The log comes first: it has the action whatever becomes of the servers.
	t.log.Info("action", zap.Inline(e))
	stored, err := t.append(ctx, e, minor)
	if err == nil {
		t.log.Debug("action stored", zap.String("action_id", e.ID), zap.Uint64("seq", stored.Seq), zap.String("hash", hash(stored.Data)))
		return
	}
	if minor && errors.Is(err, stream.ErrFull) {
		t.log.Warn("refusal not stored: the trail keeps its room for actions", zap.Inline(e))
		return
	}
	if queued := t.queue(ctx, e); queued != nil {
		t.log.Error("action is in this log alone", zap.Inline(e), telemetry.Error(errors.Join(err, queued)))
		return
	}
	t.log.Warn("action waits in Redis until NATS answers", zap.Inline(e), telemetry.Error(err))
}

var errNoBroker = errors.New("no broker")

func (t *Trail) append(ctx context.Context, e Entry, minor bool) (stream.StoredAction, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTime)
	defer cancel()
	if t.o.Stream == nil {
		return stream.StoredAction{}, errNoBroker
	}
	conn, err := t.o.Stream(ctx)
	if err != nil {
		return stream.StoredAction{}, err
	}
	return put(ctx, conn, e, minor)
}

func put(ctx context.Context, conn *stream.Conn, e Entry, minor bool) (stream.StoredAction, error) {
	return conn.AppendAction(ctx, stream.ActionMessage{ID: e.ID, Minor: minor, Encode: e.behind})
}

// Run appends what waits in Redis, now and then, until ctx ends.
func (t *Trail) Run(ctx context.Context) {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		if err := t.Drain(ctx); err != nil {
			t.log.Debug("actions wait in Redis", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Drain appends what waits in Redis, oldest first, a hundred at most.
func (t *Trail) Drain(ctx context.Context) error {
	store, err := t.o.State(ctx)
	if err != nil {
		return err
	}
	waiting, err := store.QueuedActions(ctx, drainMost)
	if err != nil || len(waiting) == 0 {
		return err
	}
	conn, err := t.o.Stream(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range waiting {
		var e Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			e = t.filled(Entry{What: "unreadable action", Outcome: err.Error(), On: text})
		}
		if _, err := put(ctx, conn, e, false); err != nil {
			return err
		}
		if err := store.DequeueAction(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

var errNoRedis = errors.New("no Redis to wait in")

func (t *Trail) queue(ctx context.Context, e Entry) error {
	if t.o.State == nil {
		return errNoRedis
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueTime)
	defer cancel()
	store, err := t.o.State(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode action: %w", err)
	}
	return store.QueueAction(ctx, string(text))
}
