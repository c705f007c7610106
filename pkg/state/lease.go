package state

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrHeld says that somebody else holds the lease. It is an outcome, not a
	// fault.
	ErrHeld = errors.New("lease is held")
	// ErrLost says that the lease ran out; somebody else may hold it now.
	ErrLost = errors.New("lease is lost")
)

var (
	//go:embed lease_take.lua
	leaseTakeLua    string
	leaseTakeScript = redis.NewScript(leaseTakeLua)
	//go:embed lease_keep.lua
	leaseKeepLua    string
	leaseKeepScript = redis.NewScript(leaseKeepLua)
)

// Lease is the right to do something alone until it runs out. It does not renew
// itself. A holder that was stopped for longer than the lease lasts does not
// notice: what must not happen twice is to be guarded by Fence or by a compare
// where it is written.
type Lease struct {
	// Fence is larger than that of every lease of the name before this one, also
	// after Redis lost its data.
	Fence int64

	store *Store
	name  string
	owner string
	ttl   time.Duration
}

// Lease takes the lease of a name for ttl (milliseconds; at least one), or
// returns [ErrHeld].
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (*Lease, error) {
	l := &Lease{store: s, name: name, owner: rand.Text(), ttl: max(ttl, time.Millisecond)}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := []string{ephemeralKey("lease", name), ephemeralKey("fence", name)}
	fence, err := leaseTakeScript.Run(ctx, s.db, keys, l.owner, l.ttl.Milliseconds()).Int64()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, fmt.Errorf("%s: %w", name, ErrHeld)
	case err != nil:
		return nil, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	l.Fence = fence
	return l, nil
}

// Renew makes the lease last its whole time from now, or returns [ErrLost].
func (l *Lease) Renew(ctx context.Context) error {
	kept, err := l.keep(ctx, l.ttl)
	switch {
	case err != nil:
		return fmt.Errorf("renew lease %s: %w", l.name, err)
	case !kept:
		return fmt.Errorf("%s: %w", l.name, ErrLost)
	}
	return nil
}

// Release gives the lease up, also when ctx has ended. Releasing one that ran
// out is no error and touches no other holder.
func (l *Lease) Release(ctx context.Context) error {
	if _, err := l.keep(context.WithoutCancel(ctx), 0); err != nil {
		return fmt.Errorf("release lease %s: %w", l.name, err)
	}
	return nil
}

// keep makes the lease last ttl from now, 0 ends it; false if it is lost.
func (l *Lease) keep(ctx context.Context, ttl time.Duration) (bool, error) {
	ctx, cancel := l.store.bound(ctx)
	defer cancel()
	return leaseKeepScript.Run(ctx, l.store.db, []string{ephemeralKey("lease", l.name)}, l.owner, ttl.Milliseconds()).Bool()
}
