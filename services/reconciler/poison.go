package reconciler

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// maxID is above every id seen; QuickBooks numbers the records of an entity
// from 1.
const maxID = 1 << 40

// second reads one second in which a record makes every Query fail, by halving
// the range of ids. The API may compare ids as text, or a record may have an id
// that is no number: so a suspect must fail by itself, and in the end as many
// records as the API counts must have been seen.
func (k *keyset) second(ctx context.Context, at time.Time) error {
	q := k.base
	q.from, q.to = at, at.Add(time.Second)
	seen, err := k.ids(ctx, q, 0, maxID)
	if err != nil {
		return err
	}
	n, _, err := k.scan.count(ctx, q)
	if err != nil {
		return fmt.Errorf("%w: count the records of %s: %w", errUnreadable, qbo.FormatTime(at), err)
	}
	if n != seen {
		return fmt.Errorf("%w: %s holds %d records, %d were found around the one that fails",
			errUnreadable, qbo.FormatTime(at), n, seen)
	}
	return nil
}

// ids reads the ids of [low, top) and returns how many records there are,
// those that fail included.
func (k *keyset) ids(ctx context.Context, q statement, low, top int64) (int, error) {
	q.low, q.top = low, top
	n, err := k.run(ctx, q)
	if err == nil || !k.scan.poisoned(ctx, err) {
		return n, err
	}
	if k.failed++; k.failed > maxFailed {
		return 0, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if top-low == 1 {
		return 1, k.confirm(ctx, strconv.FormatInt(low, 10), q.from)
	}
	middle := low + (top-low)/2
	first, err := k.ids(ctx, q, low, middle)
	if err != nil {
		return 0, err
	}
	second, err := k.ids(ctx, q, middle, top)
	return first + second, err
}

// confirm asks for the one record: it is the cause only if it fails alone.
func (k *keyset) confirm(ctx context.Context, id string, second time.Time) error {
	q := k.base
	q.ids, q.rows = []string{id}, 1
	_, err := k.scan.callQuery(ctx, q.String())
	switch {
	case err == nil:
		return fmt.Errorf("%w: a record of %s fails, but not by its id", errUnreadable, qbo.FormatTime(second))
	case !k.scan.poisoned(ctx, err):
		return err
	}
	return k.suspect(id, second)
}
