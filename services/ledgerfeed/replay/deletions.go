package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// deletions replays what was deleted in the range, as far as QuickBooks still says.
func (r *run) deletions(ctx context.Context) error {
	names := r.deletable()
	if len(names) == 0 {
		return nil
	}
	r.result.Entity = "deletions"
	return r.deleted(ctx, names)
}

// deletable are the entities to ask ChangeDataCapture about, and notes say what it
// will not tell.
func (r *run) deletable() []string {
	names, others := r.known()
	since := r.cdcSince()
	if len(others) > 0 {
		r.note("QuickBooks reports no deletions of %s: replay a deleted record by its id", strings.Join(others, ", "))
	}
	if len(names) > 0 && r.o.Since.Before(since) {
		r.note("deletions before %s are not found, because QuickBooks reports them for 30 days: replay a deleted record by its id", qbo.FormatTime(since))
	}
	if !r.o.Until.IsZero() && !since.Before(r.o.Until) {
		return nil
	}
	return names
}

// deleted asks about entities in one call. An answer that is cut off, or that one
// of them makes fail, is asked for again in halves.
func (r *run) deleted(ctx context.Context, names []string) error {
	res, err := r.cdc(ctx, names)
	whole := err == nil && !res.Truncated() && res.Complete(names)
	switch {
	case whole:
	case len(names) > 1 && (err == nil || r.divisible(err)):
		half := len(names) / 2
		if err := r.deleted(ctx, names[:half]); err != nil {
			return err
		}
		return r.deleted(ctx, names[half:])
	case err != nil && r.divisible(err):
		r.note("deletions of %s are not found: %v", names[0], err)
		return nil
	case err != nil:
		return fmt.Errorf("deletions of %s: %w", strings.Join(names, ", "), err)
	default:
		r.note("deletions of %s: QuickBooks lists the first %d changes only, some may be missing: give a later --since", names[0], qbo.MaxObjects)
	}
	return r.bury(ctx, res)
}

// divisible reports whether err is about what was asked for.
func (r *run) divisible(err error) bool {
	var fault *qbo.Fault
	if errors.Is(err, qbo.ErrForbidden) || errors.Is(err, qbo.ErrUnauthorized) {
		return false
	}
	return errors.Is(err, qbo.ErrTooLarge) || errors.As(err, &fault) && !qbo.Temporary(err)
}

func (r *run) bury(ctx context.Context, res qbo.CDCResult) error {
	var events []*ledgerfeedv1.Event
	for _, items := range res.Entities {
		for _, item := range items {
			if item.Deleted && r.within(item.LastUpdated) {
				events = append(events, r.event(item, item.Version()))
			}
		}
	}
	if err := r.publish(ctx, events); err != nil {
		return err
	}
	r.result.Deletions += len(events)
	r.progress()
	return nil
}
