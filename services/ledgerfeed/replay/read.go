package replay

import (
	"context"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// Plan tells what Run would do, with one call an entity: the deletions are not
// among the records.
func Plan(ctx context.Context, o Options) (Result, error) {
	r := newRun(o)
	if len(o.IDs) > 0 {
		r.result.Records, r.result.Hydration = len(o.IDs), calls(len(o.IDs), perRead)
		return r.result, nil
	}
	finding := 0
	for _, name := range r.o.Entities {
		r.result.Entity = name
		n, err := r.reading(name).Count(ctx)
		if err := r.unlessUnknown(name, err); err != nil {
			return r.result, err
		}
		r.result.Records += n
		r.result.Hydration += calls(n, perRead)
		finding += max(calls(n, perPage), 1)
		r.progress()
	}
	if len(r.deletable()) > 0 {
		finding++
	}
	r.result.Calls = finding
	return r.result, nil
}

func (r *run) reading(name string) reconciler.Reading {
	return reconciler.Reading{Query: r.query, Entity: name, From: r.o.Since, To: r.o.Until, Now: r.o.Now}
}

// client leaves the turns to live work.
func (r *run) client() *qbo.Client { return r.o.QBO.With(qbo.Backfill) }

func (r *run) query(ctx context.Context, statement string) (res qbo.QueryResult, err error) {
	err = retry.Calls(tries, qbo.Temporary).Do(ctx, func() error {
		r.result.Calls++
		res, err = r.client().Query(ctx, r.o.Realm, statement)
		return err
	})
	return res, err
}

func (r *run) cdc(ctx context.Context, names []string) (res qbo.CDCResult, err error) {
	err = retry.Calls(tries, qbo.Temporary).Do(ctx, func() error {
		r.result.Calls++
		res, err = r.client().CDC(ctx, r.o.Realm, names, r.cdcSince())
		return err
	})
	if err != nil {
		return res, fmt.Errorf("cdc: %w", err)
	}
	return res, nil
}
