package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ActionStream keeps what people did to the feed. Messages are appended to it and can be
// neither deleted nor purged; the oldest go by age. It exists where an action was recorded.
const ActionStream = "LF_ACTIONS"

const actionSubject = "lf.action"

// StoredAction is a message of the stream, with the encoding of its writer.
type StoredAction struct {
	Seq  uint64
	At   time.Time // by the broker's clock
	Data []byte
}

// ActionMessage is what is appended.
type ActionMessage struct {
	// ID is the Nats-Msg-Id: one that is appended twice within two minutes is there once.
	ID string
	// Minor leaves the last quarter of the stream to what is not.
	Minor bool
	// Encode makes the message, which comes behind last: nil where there is none.
	Encode func(last *StoredAction) ([]byte, error)
}

func (c *Conn) actions() jetstream.StreamConfig {
	s := c.stream(ActionStream, actionSubject, c.cfg.ActionsMaxBytes)
	s.Description = "what people did to the feed"
	s.MaxAge = c.cfg.ActionsMaxAge
	// A full stream refuses: nobody pushes out what was recorded before.
	s.DenyDelete, s.DenyPurge = true, true
	return s
}

// EnsureActions does for the stream of actions what [Conn.EnsureTopology] does for the others.
func (c *Conn) EnsureActions(ctx context.Context) error {
	if c.cfg.Setup == SetupVerify {
		return c.verify(ctx, c.actions())
	}
	return c.ensure(ctx, c.actions())
}

const (
	// appendAttempts and appendPause bound the race of several writers: one of them wins
	// each round.
	appendAttempts = 64
	appendPause    = 20 * time.Millisecond
)

// AppendAction appends a message and waits for the broker's acknowledgement. Of several
// writers each sees the one before it: the broker refuses a message whose last is not the
// last any more, and it is encoded again. ErrFull says that there is no room.
func (c *Conn) AppendAction(ctx context.Context, a ActionMessage) (StoredAction, error) {
	var err error
	for range appendAttempts {
		var stored StoredAction
		if stored, err = c.tryAppend(ctx, a); !isOvertaken(err) {
			return stored, err
		}
		select {
		case <-ctx.Done():
			return StoredAction{}, fmt.Errorf("append action: %w", ctx.Err())
		case <-time.After(time.Duration(rand.Int64N(int64(appendPause)))):
		}
	}
	return StoredAction{}, err
}

func (c *Conn) tryAppend(ctx context.Context, a ActionMessage) (StoredAction, error) {
	s, err := c.actionStream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = c.EnsureActions(ctx); err == nil {
			s, err = c.actionStream(ctx)
		}
	}
	if err != nil {
		return StoredAction{}, err
	}
	info := s.CachedInfo()
	if most := info.Config.MaxBytes; a.Minor && most > 0 && info.State.Bytes > uint64(most)/4*3 {
		return StoredAction{}, fmt.Errorf("append action: %w", ErrFull)
	}
	var last *StoredAction
	if info.State.Msgs > 0 {
		one, err := readAction(ctx, s, info.State.LastSeq)
		switch {
		case err == nil:
			last = &one
		case !errors.Is(err, jetstream.ErrMsgNotFound): // it may have expired since
			return StoredAction{}, err
		}
	}
	data, err := a.Encode(last)
	if err != nil {
		return StoredAction{}, fmt.Errorf("append action: %w", err)
	}
	m := message(ActionStream, actionSubject, a.ID, data)
	m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(info.State.LastSeq, 10))
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PublishTimeout)
	defer cancel()
	ack, err := c.js.PublishMsg(ctx, m)
	if err != nil {
		return StoredAction{}, notDurable(a.ID, err)
	}
	return StoredAction{Seq: ack.Sequence, At: time.Now(), Data: data}, nil
}

func isOvertaken(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// NewestActions returns the newest n, newest first, leaving out the newest skip.
func (c *Conn) NewestActions(ctx context.Context, skip, n int) ([]StoredAction, error) {
	s, err := c.actionStream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	state := s.CachedInfo().State
	var newest []StoredAction
	if state.Msgs <= uint64(max(0, skip)) {
		return nil, nil
	}
	for seq := state.LastSeq - uint64(max(0, skip)); seq >= state.FirstSeq && len(newest) < n; seq-- {
		one, err := readAction(ctx, s, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break // it has expired since
		}
		if err != nil {
			return nil, err
		}
		newest = append(newest, one)
	}
	return newest, nil
}

// CountActions is how many there are.
func (c *Conn) CountActions(ctx context.Context) (int, error) {
	u, err := c.ActionUsage(ctx)
	return int(u.Messages), err
}

// ActionUsage is how full the stream of actions is; zero where there is none yet.
func (c *Conn) ActionUsage(ctx context.Context) (Usage, error) {
	s, err := c.actionStream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Usage{Stream: ActionStream}, nil
	}
	if err != nil {
		return Usage{}, err
	}
	info := s.CachedInfo()
	return Usage{Stream: ActionStream, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes}, nil
}

// EachAction calls each for the actions there are now, oldest first, until it returns an
// error.
func (c *Conn) EachAction(ctx context.Context, each func(StoredAction) error) error {
	s, err := c.actionStream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	cons, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{InactiveThreshold: time.Minute, MaxResetAttempts: 3})
	if err != nil {
		return fmt.Errorf("read the actions: %w", err)
	}
	run, err := cons.Messages(jetstream.PullMaxMessages(scanMessages))
	if err != nil {
		return fmt.Errorf("read the actions: %w", err)
	}
	defer run.Stop()
	for last := uint64(0); last < state.LastSeq; {
		one, err := nextAction(ctx, run)
		if err != nil {
			return fmt.Errorf("read the actions: %w", err)
		}
		if last = one.Seq; last > state.LastSeq {
			return nil
		}
		if err := each(one); err != nil {
			return err
		}
	}
	return nil
}

func nextAction(ctx context.Context, run jetstream.MessagesContext) (StoredAction, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := run.Next(jetstream.NextContext(ctx))
	if err != nil {
		return StoredAction{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return StoredAction{}, err
	}
	return StoredAction{Seq: meta.Sequence.Stream, At: meta.Timestamp, Data: m.Data()}, nil
}

func readAction(ctx context.Context, s jetstream.Stream, seq uint64) (StoredAction, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return StoredAction{}, fmt.Errorf("read action %d: %w", seq, err)
	}
	return StoredAction{Seq: m.Sequence, At: m.Time, Data: m.Data}, nil
}

func (c *Conn) actionStream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, ActionStream)
	if err != nil {
		return nil, c.topologyError("look up", ActionStream, err)
	}
	return s, nil
}
