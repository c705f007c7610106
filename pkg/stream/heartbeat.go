package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// HeartbeatStream records the beats of the last hour for whoever did not listen. A
// service that beats need not know of it.
const HeartbeatStream = "LF_HEARTBEATS"

const (
	heartbeatsMaxAge   = time.Hour
	heartbeatsMaxBytes = 4 << 20 // an hour of 50 replicas
	// heartbeatsReach is how far back the record can be read: the oldest ones are being
	// deleted.
	heartbeatsReach = heartbeatsMaxAge - time.Minute
	heartbeatsBatch = 1000
)

// Heartbeats is what the broker has recorded of the beats of a service, by its own clock.
type Heartbeats struct {
	// Ages is how long ago each beat was, the oldest first.
	Ages []time.Duration
	// Complete: the record reaches back as far as was asked. Without, a beat that is
	// not in it says nothing.
	Complete bool
}

// EnsureHeartbeats creates the record if there is none; with SetupVerify it only looks.
// Nothing else fails without it.
func (c *Conn) EnsureHeartbeats(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.js.Stream(ctx, HeartbeatStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && c.cfg.Setup == SetupVerify {
		return notSetUp(fmt.Errorf("stream %s is missing", HeartbeatStream))
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want := c.stream(HeartbeatStream, beatSubject+">", heartbeatsMaxBytes)
		want.Description = "heartbeats of the last hour"
		want.MaxAge = heartbeatsMaxAge
		want.Discard = jetstream.DiscardOld
		if _, err = c.js.CreateStream(ctx, want); err == nil {
			c.log.Info("stream created", telemetry.Stream(HeartbeatStream))
		}
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("ensure stream %s: %w", HeartbeatStream, err)
	}
	return nil
}

// Heartbeats reads the beats of a service since over ago.
func (c *Conn) Heartbeats(ctx context.Context, service string, over time.Duration) (Heartbeats, error) {
	h, err := c.heartbeats(ctx, service, over)
	if err != nil {
		return Heartbeats{}, fmt.Errorf("read the heartbeats of %s: %w", service, err)
	}
	return h, nil
}

func (c *Conn) heartbeats(ctx context.Context, service string, over time.Duration) (Heartbeats, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, HeartbeatStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) || over > heartbeatsReach {
		return Heartbeats{}, nil
	}
	if err != nil {
		return Heartbeats{}, err
	}
	info := s.CachedInfo()
	now := info.TimeStamp
	from := now.Add(-over)
	// What is full forgets its oldest messages before their time.
	full := info.State.FirstSeq > 1 && info.State.FirstTime.After(from) && info.State.Bytes > heartbeatsMaxBytes/2
	h := Heartbeats{Complete: !now.IsZero() && !info.Created.After(from) && !full}
	if info.State.Msgs == 0 {
		return h, nil
	}
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{beatSubject + service}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		InactiveThreshold: time.Minute, MaxResetAttempts: 3,
	})
	if err != nil {
		return Heartbeats{}, err
	}
	for {
		some, err := cons.FetchNoWait(heartbeatsBatch)
		if err != nil {
			return Heartbeats{}, err
		}
		pending := uint64(0)
		for m := range some.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return Heartbeats{}, err
			}
			h.Ages = append(h.Ages, now.Sub(meta.Timestamp))
			pending = meta.NumPending
		}
		if err := some.Error(); err != nil {
			return Heartbeats{}, err
		}
		if pending == 0 {
			return h, nil
		}
	}
}
