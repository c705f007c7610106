package processor

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// messageWeight is what a message weighs beside its bytes: what is decoded of
	// it, and its place in the lanes. Of a backlog of small messages it is most.
	messageWeight = 5 << 10
	// crowdedDelay is how long a message stays away from a replica without room.
	crowdedDelay = time.Second
)

// hand holds the messages that were taken off the stream and are not settled:
// no more bytes of them than there is room for.
type hand struct {
	log     *zap.Logger
	ackWait time.Duration
	size    int64
	room    *semaphore.Weighted
	leaving sync.WaitGroup

	mu   sync.Mutex // guards held
	held map[*stream.Message]time.Time
}

func newHand(c ProcessorConfig, log *zap.Logger) *hand {
	return &hand{
		log: log, ackWait: c.AckWait, size: int64(c.MaxInHand), room: semaphore.NewWeighted(int64(c.MaxInHand)),
		held: map[*stream.Message]time.Time{},
	}
}

// enter takes a message, or fails if there is no room for it for too long: what
// the broker has sent behind it waits too, and its AckWait runs. Call leave when
// the message is settled.
func (h *hand) enter(ctx context.Context, m *stream.Message) (leave func(), err error) {
	weight := min(int64(2*len(m.Data())+messageWeight), h.size)
	if !h.room.TryAcquire(weight) {
		ctx, cancel := context.WithTimeout(ctx, h.ackWait/4)
		defer cancel()
		if err := h.room.Acquire(ctx, weight); err != nil {
			return nil, err
		}
	}
	h.leaving.Add(1)
	h.mu.Lock()
	h.held[m] = time.Now()
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		delete(h.held, m)
		h.mu.Unlock()
		h.room.Release(weight)
		h.leaving.Done()
	}, nil
}

func (h *hand) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

// empty waits until all are settled. Nothing may enter meanwhile.
func (h *hand) empty() { h.leaving.Wait() }

// keep tells the broker of messages that take long, so that it gives them to nobody
// else, until ctx ends.
func (h *hand) keep(ctx context.Context) {
	tick := time.NewTicker(h.ackWait / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, m := range h.old(h.ackWait / 6) {
				if err := m.InProgress(); err != nil {
					h.log.Debug("ack deadline not extended", telemetry.Stream(m.Subject()), telemetry.Error(err))
				}
			}
		}
	}
}

func (h *hand) old(age time.Duration) (old []*stream.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m, since := range h.held {
		if time.Since(since) >= age {
			old = append(old, m)
		}
	}
	return old
}
