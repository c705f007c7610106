package connection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	defaultPage = 100
	// MaxPage is the most a page can hold.
	MaxPage = 1000
	// maxLooked bounds how many realms one page reads while it looks for what a
	// filter wants.
	maxLooked = 20 * MaxPage
)

// Query chooses realms, in the order of their ids as text.
type Query struct {
	// After is the id the page begins behind: Next of the page before; "" for the
	// first.
	After string
	// Limit is how many to return; 100 if 0, at most [MaxPage].
	Limit int
	// States; none means all.
	States []State
	// Prefix of the ids.
	Prefix string
	// App is the name of the app; "" for any.
	App string
}

// Listed is a realm in a list.
type Listed struct {
	Connection
	// Key, PreviousKey and PendingKey are the ids of the keys its tokens are encrypted
	// with; "" without one.
	Key, PreviousKey, PendingKey string
	// Err says why the token does not open, or nil. The rest is valid all the same.
	Err error
}

// Page is a part of a list.
type Page struct {
	Realms []Listed
	// Next is After of the next page, "" if this is the last. A page that is not full
	// may have a next one: looking for what a filter wants is broken off after
	// 20,000 realms.
	Next string
}

// Page returns a part of all realms that ever were connected. It costs the same
// wherever it begins and however many realms there are, a filter by state included;
// one by app looks at realms one by one.
func (s *Store) Page(ctx context.Context, q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, MaxPage)
	if len(q.States) == 0 {
		q.States = States()
	}
	if err := s.indexed(ctx); err != nil {
		return Page{}, err
	}
	var page Page
	for looked := 0; ; {
		realms, err := s.names(ctx, q, q.Limit+1)
		if err != nil {
			return Page{}, err
		}
		more := len(realms) > q.Limit
		realms = realms[:min(len(realms), q.Limit)]
		found, err := s.listed(ctx, q, realms)
		if err != nil {
			return Page{}, err
		}
		room := q.Limit - len(page.Realms)
		if len(found) > room {
			page.Realms = append(page.Realms, found[:room]...)
			page.Next = page.Realms[len(page.Realms)-1].RealmID
			return page, nil
		}
		page.Realms = append(page.Realms, found...)
		looked += len(realms)
		if !more {
			return page, nil
		}
		q.After = realms[len(realms)-1]
		if len(page.Realms) == q.Limit || looked >= maxLooked {
			page.Next = q.After
			return page, nil
		}
	}
}

// names are the next n ids of the states that are asked for, by the index.
func (s *Store) names(ctx context.Context, q Query, n int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	between := redis.ZRangeBy{Min: "-", Max: "+", Count: int64(n)}
	if q.Prefix != "" {
		between.Min, between.Max = "["+q.Prefix, "("+q.Prefix+"\xff"
	}
	if q.After != "" && q.After >= q.Prefix {
		between.Min = "(" + q.After
	}
	pipe := s.db.Pipeline()
	parts := make([]*redis.StringSliceCmd, len(q.States))
	for i, state := range q.States {
		parts[i] = pipe.ZRangeByLex(ctx, indexKey(string(state)), &between)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list realms: %w", err)
	}
	var all []string
	for _, part := range parts {
		all = append(all, part.Val()...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), n)], nil
}

// listed reads the realms and leaves out those the index was wrong about, which it
// puts right.
func (s *Store) listed(ctx context.Context, q Query, realms []string) ([]Listed, error) {
	if len(realms) == 0 {
		return nil, nil
	}
	found, err := s.loadAll(ctx, realms)
	if err != nil {
		return nil, err
	}
	all := make([]Listed, 0, len(found))
	var moved []placed
	for _, f := range found {
		r := f.record
		switch {
		case !slices.Contains(q.States, r.State):
			moved = append(moved, f)
		case q.App != "" && r.App != q.App:
		default:
			all = append(all, Listed{Connection: r.Connection, Key: keyOf(r.sealed), PreviousKey: keyOf(r.previous), PendingKey: keyOf(r.pending), Err: r.openError})
		}
	}
	if len(moved) > 0 {
		if err := s.place(ctx, moved); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// keyOf is the id of the key that a record is sealed with.
func keyOf(sealed string) string {
	parts := strings.SplitN(sealed, ".", 3)
	if len(parts) != 3 || parts[0] != sealedVersion {
		return ""
	}
	return parts[1]
}

// Counts returns how many realms are in each state, all states included. It costs
// the same however many there are.
func (s *Store) Counts(ctx context.Context) (map[State]int, error) {
	if err := s.indexed(ctx); err != nil {
		return nil, err
	}
	_, counts, err := s.counts(ctx)
	delete(counts, none)
	return counts, err
}

func (s *Store) counts(ctx context.Context) (named int, counts map[State]int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.db.Pipeline()
	all := pipe.SCard(ctx, realmsKey)
	parts := map[State]*redis.IntCmd{}
	for _, name := range places() {
		parts[State(name)] = pipe.ZCard(ctx, indexKey(name))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, nil, fmt.Errorf("count the realms: %w", err)
	}
	counts = map[State]int{}
	for state, n := range parts {
		counts[state] = int(n.Val())
	}
	return int(all.Val()), counts, nil
}

// indexed makes the index anew if it holds fewer realms than there are: those of an
// earlier version, or of a process that died while it connected one.
func (s *Store) indexed(ctx context.Context) error {
	named, counts, err := s.counts(ctx)
	if err != nil {
		return err
	}
	for _, n := range counts {
		named -= n
	}
	if named <= 0 || !s.mayReindex() {
		return nil
	}
	if err := s.Reindex(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}

// reindexEvery keeps lists of a store that changes all the time from making the
// index anew over and over.
const reindexEvery = 10 * time.Second

func (s *Store) mayReindex() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.reindexed) >= reindexEvery {
		s.reindexed = now
		return true
	}
	return false
}

// Listed returns one realm as a list shows it, or an error that wraps
// [ErrNotConnected] if it never was connected. A token that does not open is no
// error; see [Listed.Err].
func (s *Store) Listed(ctx context.Context, realm string) (Listed, error) {
	r, err := s.load(ctx, realm)
	if err != nil && r.RealmID == "" {
		return Listed{}, err
	}
	return Listed{Connection: r.Connection, Key: keyOf(r.sealed), PreviousKey: keyOf(r.previous), PendingKey: keyOf(r.pending), Err: err}, nil
}
