package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// postgresFaults are what becomes of a database that others run: its endpoint moves, it
// takes no writes, its pooler ends.
func postgresFaults() []fault {
	return []fault{
		{name: "postgres-failover", group: "postgres", kills: 1, least: 4 * time.Second, most: 8 * time.Second, weight: 2, effects: effects{repeats: true}, begin: failOver},
		{name: "table-readonly", group: "postgres", least: 2 * time.Second, most: 8 * time.Second, weight: 2, effects: effects{repeats: true}, begin: makeReadOnly},
		{name: "pgbouncer-restart", group: "pgbouncer", kills: 1, least: 0, most: 3 * time.Second, weight: 2, effects: effects{repeats: true}, pools: true, begin: killBouncer},
	}
}

// failOver promotes the synchronous standby of the database. The endpoint leads to the old
// primary, which is back and read-only, until the fault ends.
func failOver(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	d := r.plant.database
	d.moving.Lock() // an earlier one may take longer than was planned
	defer d.moving.Unlock()
	if err := d.follow(ctx); err != nil {
		return nil, "", err
	}
	from := d.now().process.name
	err := d.failover(ctx)
	return func(context.Context) error {
		r.plant.redirectTable()
		return nil
	}, fmt.Sprintf("from %s to %s", from, d.now().process.name), err
}

// makeReadOnly is a guard of the disk, or a person, that lets nobody write for a while.
func makeReadOnly(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	d := r.plant.database
	return func(ctx context.Context) error { return d.setReadOnly(ctx, false) }, "", d.setReadOnly(ctx, true)
}

func killBouncer(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	if r.plant.bouncer == nil {
		return nil, "", errNotPermitted // PgBouncer is not installed
	}
	return killed(r.plant.bouncer.process)
}
