// Package state keeps what the services share in Redis.
package state

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

var (
	ErrUnreachable = errors.New("redis does not answer")
	ErrHeld        = errors.New("lease is held")
	ErrLost        = errors.New("lease is lost")
)

const Shards = 64

func Shard(realm string) int { return 0 }

type Config struct {
	URL secret.String `koanf:"url" doc:"Redis server, redis://user:password@host:port/db (rediss:// for TLS)"`
}

func DefaultConfig() Config      { return Config{URL: "redis://127.0.0.1:6379/0"} }
func (c Config) Validate() error { return nil }

type Options struct {
	Config Config
	Now    func() time.Time
	Logger *zap.Logger
}

type Store struct{}

func Open(ctx context.Context, o Options) (*Store, error) { return &Store{}, nil }
func (s *Store) Close() error                             { return nil }
func (s *Store) Ping(ctx context.Context) error           { return nil }
func (s *Store) Redis() redis.UniversalClient             { return nil }

type Ref struct{ Entity, ID string }

type Mark struct {
	Version int64
	Covered time.Time
}

type Advance struct {
	Ref
	Version int64
	Covered time.Time
}

func (s *Store) Marks(ctx context.Context, realm, sink string, refs []Ref) ([]Mark, error) {
	return nil, nil
}
func (s *Store) Advance(ctx context.Context, realm, sink string, as []Advance) error { return nil }
func (s *Store) LiveIDs(ctx context.Context, realm, sink, entity string) (map[string]int64, error) {
	return nil, nil
}

func (s *Store) Sinks(ctx context.Context) ([]string, error)                         { return nil, nil }
func (s *Store) RegisterSinks(ctx context.Context, names []string) ([]string, error) { return nil, nil }
func (s *Store) SetSinks(ctx context.Context, names []string) ([]string, error)      { return nil, nil }

func (s *Store) Cursors(ctx context.Context, realm string) (map[string]time.Time, error) {
	return nil, nil
}
func (s *Store) AdvanceCursors(ctx context.Context, realm string, to map[string]time.Time) error {
	return nil
}
func (s *Store) RewindCursors(ctx context.Context, realm string, entities []string, to time.Time) error {
	return nil
}

type Scan struct {
	ID        string               `json:"id"`
	StartedAt time.Time            `json:"started_at"`
	Time      time.Time            `json:"time"`
	Cursors   map[string]time.Time `json:"cursors"`
	Missing   []Missing            `json:"missing,omitempty"`
}

type Missing struct {
	Ref
	Version int64 `json:"version"`
}

func (s *Store) SaveScan(ctx context.Context, realm string, scan Scan) error { return nil }
func (s *Store) Scans(ctx context.Context, realm string) ([]Scan, error)     { return nil, nil }
func (s *Store) DropScan(ctx context.Context, realm, id string) error        { return nil }

func (s *Store) MarkDead(ctx context.Context, realm string, ref Ref, version int64) error { return nil }
func (s *Store) Dead(ctx context.Context, realm string, refs []Ref) ([]int64, error)      { return nil, nil }

type Lease struct{ Fence int64 }

func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (*Lease, error) {
	return &Lease{}, nil
}
func (l *Lease) Renew(ctx context.Context) error   { return nil }
func (l *Lease) Release(ctx context.Context) error { return nil }

type LimitConfig struct {
	PerMinute   int
	Burst       int
	Concurrency int
	Hold        time.Duration
}

func DefaultLimits() LimitConfig {
	return LimitConfig{PerMinute: 450, Burst: 10, Concurrency: 8, Hold: 130 * time.Second}
}

type Limiter struct{}

func (s *Store) Limiter(c LimitConfig) *Limiter { return &Limiter{} }
func (l *Limiter) Acquire(ctx context.Context, realm string, p qbo.Priority) (release func(), err error) {
	return func() {}, nil
}
func (l *Limiter) Penalize(ctx context.Context, realm string, d time.Duration) error { return nil }

func (s *Store) Schedule(ctx context.Context, realm string, at time.Time) error { return nil }
func (s *Store) ClaimDue(ctx context.Context, shards []int, now time.Time, visibility time.Duration, n int) ([]string, error) {
	return nil, nil
}
func (s *Store) Done(ctx context.Context, realm string, next time.Time) error { return nil }
func (s *Store) NextDue(ctx context.Context, shards []int) (time.Time, error) {
	return time.Time{}, nil
}

type Gap struct {
	At time.Time `json:"at"`
	Ref
	Version int64     `json:"version"`
	Source  string    `json:"source"`
	Verdict string    `json:"verdict"`
	Event   time.Time `json:"event,omitzero"`
}

func (s *Store) AppendGaps(ctx context.Context, realm string, gaps []Gap) error { return nil }
func (s *Store) Gaps(ctx context.Context, realm string, n int) ([]Gap, error)   { return nil, nil }

type Sighting struct {
	Entity    string
	Operation string
	At        time.Time
}

func (s *Store) Seen(ctx context.Context, realm, entity, operation string, at time.Time) error {
	return nil
}
func (s *Store) SeenAll(ctx context.Context, realm string, sightings []Sighting) error { return nil }
func (s *Store) Freshness(ctx context.Context, realm string) ([]Sighting, error)       { return nil, nil }
