package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// ErrUnreachable says that Redis does not answer; the error around it names
// the address.
var ErrUnreachable = errors.New("redis does not answer")

// Options are what [Open] needs. Only Config is required.
type Options struct {
	Config Config
	// Timeout bounds each call, its retries and the wait for a connection
	// included; 5 s if zero.
	Timeout time.Duration
	// Now is for tests: a clock in place of Redis's, which all replicas share, and of
	// this process's.
	Now    func() time.Time
	Logger *zap.Logger
}

// Store is the shared state in one Redis. It is safe for concurrent use.
type Store struct {
	db      redis.UniversalClient
	servers *servers
	config  Config
	login   *login
	address string
	timeout time.Duration
	now     func() time.Time // of this process: nothing that other replicas wait for
	clock   func() time.Time // of a test, in place of Redis's; nil: Redis's
}

// Open connects and returns when Redis answers, or an error that wraps
// [ErrUnreachable] and names the address. Close the store when done.
func Open(ctx context.Context, o Options) (*Store, error) {
	// go-redis writes failed dials to stderr, by a logger that only the whole
	// process can turn off. Each comes back to its caller as an error too.
	redis.SetLogger(&logging.VoidLogger{})

	met := &servers{}
	login := newLogin(o.Config)
	db, address, err := o.Config.dial(met.met, login)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, servers: met, config: o.Config, login: login, address: address, timeout: cmp.Or(o.Timeout, callTimeout), now: o.Now, clock: o.Now}
	if s.now == nil {
		s.now = sabotage.Now
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if o.Logger != nil {
		o.Logger.Debug("redis connected", telemetry.Address(address))
	}
	return s, nil
}

// Close closes the connections. Calls under way fail.
func (s *Store) Close() error { return s.db.Close() }

// SetLogin makes new connections log in as c says; those there are stay. It reports false,
// and does nothing, where anything else of c differs.
func (s *Store) SetLogin(c Config) bool {
	if c.place() != s.config.place() || c.Cluster != s.config.Cluster || c.Sentinel != s.config.Sentinel || c.SentinelUser != s.config.SentinelUser || c.SentinelPassword != s.config.SentinelPassword {
		return false
	}
	s.login.current.Store(c.user())
	return true
}

// Ping returns an error that wraps [ErrUnreachable] if Redis does not answer.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, s.address, err)
	}
	return nil
}

// Redis is the client itself, for packages with keys of their own. It is
// closed with the store.
func (s *Store) Redis() redis.UniversalClient { return s.db }

// Address is the host and port of Redis, without a password.
func (s *Store) Address() string { return s.address }

// bound gives a call its deadline, whatever ctx says.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// maxExact is the end of the integers that Lua's numbers and the scores of a
// ZSET hold exactly.
const maxExact = 1 << 53

// millis is t as Unix milliseconds; 0 for no time, and for one that cannot be
// kept exactly.
func millis(t time.Time) int64 {
	if s := t.Unix(); s <= 0 || s >= maxExact/1000 {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func fromScore(seconds float64) time.Time {
	whole, frac := math.Modf(seconds)
	return time.Unix(int64(whole), int64(frac*1e9)).UTC()
}
