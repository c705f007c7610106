package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Reading is which records of an entity to read, for programs that read as a scan
// does without being one: it compares nothing and moves no cursor. All fields but
// From and To are required.
type Reading struct {
	// Query asks the API, and counts the call.
	Query func(ctx context.Context, statement string) (qbo.QueryResult, error)
	// Entity is a name as the API spells it.
	Entity string
	// From and To bound LastUpdatedTime, in whole seconds, To exclusive; zero for
	// no bound.
	From, To time.Time
	// Page takes what was read, in order. A record may come twice.
	Page func(items []qbo.Entity) error
	// Unread takes the second in which a record is that the API fails on.
	Unread func(second time.Time)
	Now    func() time.Time
}

// Run reads, in the order of LastUpdatedTime, whatever changes meanwhile: what is
// updated while it reads is seen where it is then.
func (r Reading) Run(ctx context.Context) error {
	k := &keyset{
		query: r.Query, now: r.Now, base: r.statement(), unread: r.Unread,
		page: func(items []qbo.Entity, _ time.Time) error { return r.Page(items) },
	}
	err := k.window(ctx, r.From, r.To)
	if filterRefused(err) && r.From.IsZero() && r.To.IsZero() {
		k.base.plain = true
		err = k.window(ctx, r.From, r.To)
		if k.base.list && filterRefused(err) {
			k.base.list = false
			err = k.window(ctx, r.From, r.To)
		}
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.Entity, err)
	}
	if k.noKey > 0 {
		return fmt.Errorf("read %s: %w", r.Entity, noKeys(k.noKey))
	}
	return nil
}

// Count asks how many records there are to read, in one call.
func (r Reading) Count(ctx context.Context) (int, error) {
	q := r.statement()
	q.from, q.to = r.From, r.To
	res, err := r.Query(ctx, q.count())
	if q.list && filterRefused(err) {
		q.list = false
		res, err = r.Query(ctx, q.count())
	}
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", r.Entity, err)
	}
	return res.TotalCount, nil
}

func (r Reading) statement() statement {
	info, _ := entity.Lookup(r.Entity)
	return statement{entity: r.Entity, list: info.List}
}
