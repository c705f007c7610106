package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoDeadLetter: there is none with that number.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetters returns the newest dead letters, newest first, at most limit.
func (c *Conn) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	s, err := c.deadStream(ctx)
	if err != nil {
		return nil, err
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 || limit <= 0 {
		return nil, nil
	}
	// The broker finds the next one after a number, not the one before it, and
	// letters are taken out one by one: look back over growing windows.
	var newest []DeadLetter
	before := state.LastSeq + 1
	for window := uint64(limit); len(newest) < limit && before > state.FirstSeq; window *= 2 {
		from := state.FirstSeq
		if before-from > window {
			from = before - window
		}
		part, err := between(ctx, s, from, before)
		if err != nil {
			return nil, err
		}
		slices.Reverse(part)
		newest = append(newest, part...)
		before = from
	}
	return newest[:min(limit, len(newest))], nil
}

// between reads the letters from one number up to, not including, another.
func between(ctx context.Context, s jetstream.Stream, from, before uint64) ([]DeadLetter, error) {
	var all []DeadLetter
	for seq := from; seq < before; {
		d, err := readDead(ctx, s, seq, jetstream.WithGetMsgSubject("lf.dead.>"))
		if errors.Is(err, ErrNoDeadLetter) {
			break
		}
		if err != nil {
			return nil, err
		}
		if d.Seq < before {
			all = append(all, d)
		}
		seq = d.Seq + 1
	}
	return all, nil
}

// DeadLetter returns one by its number, or ErrNoDeadLetter.
func (c *Conn) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	s, err := c.deadStream(ctx)
	if err != nil {
		return DeadLetter{}, err
	}
	return readDead(ctx, s, seq)
}

func readDead(ctx context.Context, s jetstream.Stream, seq uint64, opts ...jetstream.GetMsgOpt) (DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := s.GetMsg(ctx, seq, opts...)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("%w: %d", ErrNoDeadLetter, seq)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", seq, err)
	}
	return decodeDead(m.Sequence, m.Time, m.Header, m.Data), nil
}

// DeleteDead removes one, after it was replayed or looked at. Deleting one that
// is gone is no error.
func (c *Conn) DeleteDead(ctx context.Context, seq uint64) error {
	s, err := c.deadStream(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.DeleteMsg(ctx, seq); err != nil {
		// The client hides the broker's code behind one error for everything.
		if _, again := readDead(ctx, s, seq); errors.Is(again, ErrNoDeadLetter) {
			return nil
		}
		return fmt.Errorf("delete dead letter %d: %w", seq, err)
	}
	c.deadQuota.forget()
	return nil
}

// DeadCounts counts the dead letters there are, by reason.
func (c *Conn) DeadCounts(ctx context.Context) (map[Reason]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.deadStream(ctx)
	if err != nil {
		return nil, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter("lf.dead.>"))
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", err)
	}
	counts := map[Reason]uint64{}
	for subject, n := range info.State.Subjects {
		if tokens := strings.Split(subject, "."); len(tokens) >= 3 {
			counts[Reason(tokens[2])] += n
		}
	}
	return counts, nil
}

func (c *Conn) deadStream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := c.js.Stream(ctx, DeadStream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", DeadStream, err)
	}
	return s, nil
}
