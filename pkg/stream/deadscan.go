package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// DeadFilter says which dead letters are meant; zero fields leave it open. Entity
// and EntityID are matched by one event of those in a letter.
type DeadFilter struct {
	Reasons  []Reason
	RealmID  string
	Entity   string
	EntityID string
	Sink     string
	// Since is inclusive, Until exclusive; both are about DeadLetter.At.
	Since, Until time.Time
}

// All reports whether f leaves everything open.
func (f DeadFilter) All() bool {
	return len(f.Reasons) == 0 && f.RealmID == "" && f.Entity == "" && f.EntityID == "" && f.Sink == "" &&
		f.Since.IsZero() && f.Until.IsZero()
}

// Match reports whether d is meant.
func (f DeadFilter) Match(d DeadLetter) bool {
	switch {
	case len(f.Reasons) > 0 && !slices.Contains(f.Reasons, d.Reason),
		f.RealmID != "" && f.RealmID != d.RealmID,
		f.Sink != "" && f.Sink != d.Sink,
		!f.Since.IsZero() && d.At.Before(f.Since),
		!f.Until.IsZero() && !d.At.Before(f.Until):
		return false
	case f.Entity == "" && f.EntityID == "":
		return true
	}
	return slices.ContainsFunc(d.Envelope.GetEvents(), func(e *ledgerfeedv1.Event) bool {
		return (f.Entity == "" || f.Entity == e.GetEntity()) && (f.EntityID == "" || f.EntityID == e.GetEntityId())
	})
}

// subjects are where the letters that f means can be.
func (f DeadFilter) subjects() []string {
	realm := ">"
	if f.RealmID != "" {
		realm = envelope.RealmToken(f.RealmID)
	}
	if len(f.Reasons) == 0 {
		if f.RealmID == "" {
			return []string{"lf.dead.>"}
		}
		return []string{"lf.dead.*." + realm}
	}
	var all []string
	for _, r := range f.Reasons {
		all = append(all, "lf.dead."+envelope.RealmToken(string(r))+"."+realm)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

const (
	// clockSkew is how far the clock that stamped a letter may be ahead of the
	// broker's, by which it is found.
	clockSkew = 10 * time.Minute
	// Letters may be a megabyte each.
	scanMessages = 256
	scanBytes    = 16 << 20
)

// EachDead calls each for the dead letters there are now and f means, oldest
// first, until there are no more or each returns an error, which it returns. One
// deleted meanwhile may be among them.
func (c *Conn) EachDead(ctx context.Context, f DeadFilter, each func(DeadLetter) error) error {
	s, err := c.deadStream(ctx)
	if err != nil {
		return err
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: f.subjects(), InactiveThreshold: time.Minute, MaxResetAttempts: 3}
	if !f.Since.IsZero() {
		from := f.Since.Add(-clockSkew)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	cons, err := s.OrderedConsumer(ctx, cfg)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	if cons.CachedInfo().NumPending == 0 {
		return nil
	}
	limit := max(scanBytes, int(c.nc.MaxPayload())+headerReserve)
	run, err := cons.Messages(jetstream.PullMaxMessagesWithBytesLimit(scanMessages, limit))
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	defer run.Stop()
	scan := deadScan{cons: cons, run: run, last: state.LastSeq}
	for {
		d, more, err := scan.next(ctx)
		if err != nil {
			return fmt.Errorf("read the dead letters: %w", err)
		}
		if d.Seq > 0 && f.Match(d) {
			if err := each(d); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// deadScan reads up to the letter that was the last one when it began.
type deadScan struct {
	cons jetstream.Consumer
	run  jetstream.MessagesContext
	last uint64
}

// next is the next letter, none (of number 0) at the end, and whether others follow.
func (s deadScan) next(ctx context.Context) (d DeadLetter, more bool, err error) {
	wait, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := s.run.Next(jetstream.NextContext(wait))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		// What was there when the reading began may have been deleted meanwhile.
		info, asked := s.cons.Info(ctx)
		if asked == nil && info.NumPending == 0 {
			return DeadLetter{}, false, nil
		}
	}
	if err != nil {
		return DeadLetter{}, false, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return DeadLetter{}, false, err
	}
	if meta.Sequence.Stream > s.last {
		return DeadLetter{}, false, nil
	}
	d = decodeDead(meta.Sequence.Stream, meta.Timestamp, m.Headers(), m.Data())
	return d, meta.NumPending > 0 && d.Seq < s.last, nil
}
