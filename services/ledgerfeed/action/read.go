package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// Newest returns the newest n entries, newest first, leaving out the newest skip. Behind
// those of the stream come those that an earlier version wrote to Redis; store may be nil.
func Newest(ctx context.Context, conn *stream.Conn, store *state.Store, skip, n int) ([]Stored, error) {
	messages, err := conn.NewestActions(ctx, skip, n)
	if err != nil {
		return nil, err
	}
	var entries []Stored
	for _, m := range messages {
		one, err := decode(m)
		if err != nil {
			one.Entry = Entry{At: m.At, What: "unreadable entry", Outcome: err.Error()}
		}
		entries = append(entries, one)
	}
	if len(entries) == n || store == nil {
		return entries, nil
	}
	count, err := conn.CountActions(ctx)
	if err != nil {
		return nil, err
	}
	old, err := store.Actions(ctx, max(0, skip-count), n-len(entries))
	if err != nil {
		return nil, err
	}
	for _, a := range old {
		entries = append(entries, Stored{Entry: Entry{ID: a.ID, At: a.At, Who: a.Who, Role: a.Role, What: a.What, On: a.On, Outcome: a.Outcome}})
	}
	return entries, nil
}

// Chain is what [Verify] read.
type Chain struct {
	Entries int       `json:"entries"`
	First   uint64    `json:"first_seq,omitempty"`
	Last    uint64    `json:"last_seq,omitempty"`
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	// Hash is that of the last entry: whoever noted it can prove later that nothing
	// before it was changed.
	Hash string `json:"hash,omitempty"`
}

// BrokenError says where the trail is not what was written.
type BrokenError struct {
	Seq  uint64
	Text string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("entry %d: %s", e.Seq, e.Text) }

// ErrNoHash: no entry has a hash that was asked for.
var ErrNoHash = errors.New("no entry has this hash: the trail was replaced, or the entry is older than nats.actions_max_age")

// Verify reads the whole trail and returns a *BrokenError for the first entry that does
// not follow the one before. Entries that are older than nats.actions_max_age are gone;
// the chain begins behind them. With hashes it requires an entry for each.
func Verify(ctx context.Context, conn *stream.Conn, hashes ...string) (Chain, error) {
	var c Chain
	wanted := map[string]bool{}
	for _, h := range hashes {
		wanted[h] = true
	}
	err := conn.EachAction(ctx, func(m stream.StoredAction) error {
		e, err := decode(m)
		switch {
		case err != nil:
			return &BrokenError{m.Seq, "it cannot be read: " + err.Error()}
		case c.Entries > 0 && m.Seq != c.Last+1:
			return &BrokenError{m.Seq, fmt.Sprintf("entry %d is missing before it", c.Last+1)}
		case c.Entries > 0 && e.Prev != c.Hash:
			return &BrokenError{m.Seq, fmt.Sprintf("it does not follow entry %d: one of them was changed, or another stood between", c.Last)}
		case m.Seq == 1 && e.Prev != "":
			return &BrokenError{m.Seq, "it follows an entry that is not there: the stream was made again"}
		}
		if c.Entries == 0 {
			c.First, c.From = m.Seq, m.At
		}
		c.Entries++
		c.Last, c.To, c.Hash = m.Seq, m.At, e.Hash
		delete(wanted, e.Hash)
		return nil
	})
	for h := range wanted {
		if err == nil {
			err = fmt.Errorf("%s: %w", h, ErrNoHash)
		}
	}
	return c, err
}
