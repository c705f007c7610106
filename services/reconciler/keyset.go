package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// keyset reads the records of an entity in the order they were last updated.
// Each page starts at the time the last one ended with, not at an offset: a
// record that is updated meanwhile moves behind and is seen again, while an
// offset would skip its neighbour. A record that fails the Query is found by
// halving the window, and its neighbours are read around it.
type keyset struct {
	query func(ctx context.Context, statement string) (qbo.QueryResult, error)
	now   func() time.Time
	base  statement
	// page takes what was read, in order; a record may come twice.
	page func(items []qbo.Entity, at time.Time) error
	// unread takes the second in which one record fails every Query it is in.
	unread func(second time.Time)

	noKey  int // rows that have no key and cannot be tracked
	rows   int // per page; fewer once an answer was too large
	failed int // calls that failed on their content
}

const (
	// maxFailed bounds the search for records the API fails on: some 40 calls
	// find one of them in a year, so beyond this it fails on the entity.
	maxFailed = 200
	// maxRestarts bounds the readings of one second whose rows keep moving.
	maxRestarts = 5
)

// window reads [from, to), or everything from there on if to is zero.
func (k *keyset) window(ctx context.Context, from, to time.Time) error {
	if k.base.plain {
		return k.run(ctx, k.base)
	}
	at, err := k.pages(ctx, from, to)
	if err == nil || !poisoned(ctx, err) {
		return err
	}
	if k.failed++; k.failed > maxFailed {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	// All before at has been read.
	if at.IsZero() {
		at = time.Unix(0, 0).UTC()
	}
	if to.IsZero() {
		// No record is from the future by a day, whichever clock is right.
		to = k.now().Add(24 * time.Hour).Truncate(time.Second)
	}
	if to.Sub(at) <= time.Second {
		return k.second(ctx, at)
	}
	middle := at.Add((to.Sub(at) / 2).Truncate(time.Second))
	if err := k.window(ctx, at, middle); err != nil {
		return err
	}
	return k.window(ctx, middle, to)
}

// pages reads the window page by page. On an error it returns how far it came:
// everything before that time has been read.
func (k *keyset) pages(ctx context.Context, from, to time.Time) (time.Time, error) {
	for {
		q := k.base
		q.from, q.to = from, to
		res, size, err := k.ask(ctx, q)
		if err != nil {
			return from, err
		}
		if rows(res) < size {
			return from, k.take(res)
		}
		if len(res.Entities) == 0 {
			return from, fmt.Errorf("%w: its records have no ids", errUnreadable)
		}
		first, last := res.Entities[0].LastUpdated, res.Entities[len(res.Entities)-1].LastUpdated
		if last.Before(first) || first.Before(from) {
			return from, fmt.Errorf("%w: quickbooks ignores the requested order", errUnreadable)
		}
		if first.Truncate(time.Second).Before(last.Truncate(time.Second)) {
			if err := k.take(res); err != nil {
				return from, err
			}
			from = last.Truncate(time.Second)
			continue
		}
		// More records share this second than fit into a page.
		second := first.Truncate(time.Second)
		q.from, q.to = second, second.Add(time.Second)
		if err := k.run(ctx, q); err != nil {
			return second, err
		}
		from = q.to
	}
}

// run reads by offset what no time bounds: records that share one second, or those of an
// entity that cannot be filtered. Which order such records come in is not documented, and
// Intuit does not sort by Id for ever. Each page repeats the last record of the one
// before, and the records read are counted: where either differs, rows have moved
// meanwhile and one may have been skipped, so the reading starts again.
func (k *keyset) run(ctx context.Context, q statement) error {
	for range maxRestarts {
		whole, err := k.runOnce(ctx, q)
		if err != nil || whole {
			return err
		}
	}
	if k.base.plain {
		return fmt.Errorf("%w: its records keep changing", errUnreadable)
	}
	return fmt.Errorf("%w: the records of %s keep changing", errUnreadable, qbo.FormatTime(q.from))
}

func (k *keyset) runOnce(ctx context.Context, q statement) (whole bool, err error) {
	last, seen := "", map[string]bool{}
	for q.start = 1; ; {
		res, size, err := k.ask(ctx, q)
		if err != nil {
			return false, err
		}
		if last != "" && (len(res.Entities) == 0 || res.Entities[0].ID != last) {
			return false, nil
		}
		if rows(res) >= size && len(res.Entities) == 0 {
			return false, fmt.Errorf("%w: its records have no ids", errUnreadable)
		}
		if err := k.take(res); err != nil {
			return false, err
		}
		for _, item := range res.Entities {
			seen[item.ID] = true
		}
		if rows(res) < size {
			if q.start == 1 {
				return true, nil
			}
			n, err := k.count(ctx, q)
			return n == len(seen)+len(res.NoID), err
		}
		last = res.Entities[len(res.Entities)-1].ID
		q.start += rows(res) - 1
	}
}

// ask makes one call, with fewer rows if the answer is too large, and returns
// how many rows it asked for.
func (k *keyset) ask(ctx context.Context, q statement) (qbo.QueryResult, int, error) {
	if k.rows == 0 {
		k.rows = maxRows
	}
	for {
		q.rows = k.rows
		res, err := k.query(ctx, q.String())
		if tooLarge(err) && k.rows > minRows {
			k.rows = max(k.rows/8, minRows)
			continue
		}
		if n := rows(res); err == nil && n > 0 {
			k.rows = max(minRows, min(maxRows, int(pageAim/max(size(res)/int64(n), 1))))
		}
		return res, q.rows, err
	}
}

const (
	// PageLimit is how large an answer of several records may be: larger ones are asked
	// for again in smaller pages. It bounds the memory of a reading.
	PageLimit = 16 << 20
	// pageAim is how large a page is meant to be, by the size of the records of the
	// one before.
	pageAim = PageLimit / 2
	// minRows: a page by offset repeats the last record of the one before.
	minRows = 2
)

// size is how many bytes the records of an answer have.
func size(res qbo.QueryResult) (n int64) {
	for _, part := range [][]qbo.Entity{res.Entities, res.NoID} {
		for _, item := range part {
			n += int64(len(item.Raw))
		}
	}
	return n
}

// rows is the number of rows of a page, those without an id included.
func rows(res qbo.QueryResult) int { return len(res.Entities) + len(res.NoID) }

func (k *keyset) take(res qbo.QueryResult) error {
	k.noKey += len(res.NoID)
	return k.page(res.Entities, res.Time)
}
