package connection

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Refresher trades a refresh token for the next token. *qbo.OAuth is one. Once
// begun it should run to its end although ctx is cancelled: the answer may hold
// the only valid refresh token. A refused token is qbo.ErrInvalidGrant. One with a method
// ClientID() string says whose tokens it can refresh.
type Refresher interface {
	Refresh(ctx context.Context, refresh secret.String) (qbo.Token, error)
}

// Options are what [New] needs. State, Config and Refresher are required.
type Options struct {
	State     *state.Store
	Config    Config
	Refresher Refresher
	// Now is for tests: a clock in place of this process's, and of Redis's by which it is
	// noted when a realm was connected, lapsed and was connected again.
	Now    func() time.Time
	Logger *zap.Logger
	// RefreshAhead is how long before its end a token is refreshed; 5 minutes if
	// zero, and at most a quarter of the token's lifetime.
	RefreshAhead time.Duration
	// RetryEvery is how often Watch looks for refused tokens that are to be tried again;
	// ten seconds if zero.
	RetryEvery time.Duration
	// Registerer may be nil.
	Registerer prometheus.Registerer
}

// Store keeps the connections. It implements [qbo.TokenSource], is safe for
// concurrent use and needs no closing.
type Store struct {
	state      *state.Store
	db         redis.UniversalClient
	keys       atomic.Pointer[keyring]
	refresher  Refresher
	client     func() string      // id of the app; "" is unknown
	now        func() time.Time   // of clock
	clock      *state.SharedClock // nil in tests that set a clock
	own        func() time.Time   // by which the deadlines of a new token are
	stamp      func() string      // for scripts, see state.ClockLua
	log        *zap.Logger
	ahead      time.Duration
	retryEvery time.Duration
	saveFor    time.Duration
	// rejectWindow is that of the package but in tests.
	rejectWindow time.Duration
	metrics      *metrics

	flights singleflight.Group // refreshes, by realm

	mu      sync.Mutex // guards the rest
	unsaved map[string]answer
	known   map[string]known
	// reindexed is when a list last made the index anew.
	reindexed time.Time
}

const (
	callTimeout  = 5 * time.Second
	defaultAhead = 5 * time.Minute
)

var (
	//go:embed connect.lua
	connectLua    string
	connectScript = redis.NewScript(state.ClockLua + accessStatesLua + connectLua)
	//go:embed setstate.lua
	setStateLua    string
	setStateScript = redis.NewScript(state.ClockLua + accessStatesLua + setStateLua)
)

// New makes a store. It does not touch Redis yet.
func New(o Options) (*Store, error) {
	if o.State == nil || o.Refresher == nil {
		return nil, errors.New("connection: State and Refresher are required")
	}
	keys, err := newKeyring(o.Config.Keys)
	if err != nil {
		return nil, err
	}
	s := &Store{
		state: o.State, db: o.State.Redis(), refresher: o.Refresher, client: func() string { return "" },
		now: o.Now, log: o.Logger, ahead: o.RefreshAhead, retryEvery: o.RetryEvery, saveFor: defaultSaveFor, rejectWindow: rejectWindow,
		unsaved: map[string]answer{}, known: map[string]known{},
	}
	s.keys.Store(keys)
	if s.metrics, err = newMetrics(o.Registerer, s.unsavedTokens); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if named, ok := o.Refresher.(interface{ ClientID() string }); ok {
		s.client = named.ClientID
	}
	if s.stamp = s.state.ClockArg; o.Now != nil {
		s.stamp = func() string { return strconv.FormatInt(o.Now().UnixMilli(), 10) }
	}
	if s.now == nil {
		s.clock, s.own = state.NewSharedClock(sabotage.Now), time.Now
		s.now = s.clock.Now
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.retryEvery <= 0 {
		s.retryEvery = retryEvery
	}
	if s.ahead <= 0 {
		s.ahead = defaultAhead
	}
	return s, nil
}

// Connect stores the token of a realm, which is live from now on, whatever it was
// before. The token may be the only valid one: storing it is tried for some seconds,
// also when ctx has ended. The realm is scanned once a reconciler notices; see
// [Store.ScanSoon].
func (s *Store) Connect(ctx context.Context, realm, app string, t qbo.Token) error {
	if realm == "" || t.Refresh == "" {
		return fmt.Errorf("connect realm %q: the realm's id and a refresh token are required", realm)
	}
	given := s.now()
	sealed, err := s.keys.Load().sealToken(realm, stored{s.shared(t), given, s.client()})
	if err != nil {
		return fmt.Errorf("connect realm %s: %w", realm, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.saveFor)
	defer cancel()
	if err := untilStored(ctx, func() error { return s.connect(ctx, realm, app, sealed, given) }); err != nil {
		return fmt.Errorf("connect realm %s: %w", realm, err)
	}
	s.connected(ctx, realm)
	s.log.Info("realm connected", telemetry.Realm(realm), telemetry.App(app))
	return nil
}

// untilStored repeats do until it succeeds or ctx ends. It returns what do failed on.
func untilStored(ctx context.Context, do func() error) (err error) {
	_ = retry.Policy{First: 50 * time.Millisecond}.Do(ctx, func() error { err = do(); return err })
	return err
}

// connected brings up to date what goes by the record of a realm that was connected.
func (s *Store) connected(ctx context.Context, realm string) {
	s.forgetKnown(realm)
	s.foundAgain(ctx, realm)
	s.unlistHeld(ctx, realm)
	s.index(ctx, realm)
}

// ScanSoon makes a realm due for a scan now, also when ctx has ended. If Redis does
// not take it the reconciler notices the realm by itself, some seconds later.
func (s *Store) ScanSoon(ctx context.Context, realm string) {
	if err := s.state.ScheduleIn(context.WithoutCancel(ctx), realm, 0); err != nil {
		s.log.Warn("realm not scheduled; its scan is delayed", telemetry.Realm(realm), telemetry.Error(err))
	}
}

func (s *Store) connect(ctx context.Context, realm, app, sealed string, given time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The name first: a crash in between leaves a name that leads to nothing, not a
	// connection that no scan would find.
	if err := s.db.SAdd(ctx, realmsKey, realm).Err(); err != nil {
		return err
	}
	within := s.saveFor + callTimeout
	return connectScript.Run(ctx, s.db, []string{connKey(realm)}, app, sealed, s.stamp(), given.UnixMilli(), within.Milliseconds()).Err()
}

// Get returns a realm's connection, or an error that wraps [ErrNotConnected] if
// there never was one. If its token cannot be decrypted the rest is returned
// beside the error, which names the missing key.
func (s *Store) Get(ctx context.Context, realm string) (Connection, error) {
	r, err := s.load(ctx, realm)
	return r.Connection, err
}

// List returns all realms that ever were connected, sorted; see their state. It
// may name one whose connecting failed half way: Get then knows nothing of it.
func (s *Store) List(ctx context.Context) ([]string, error) { return Realms(ctx, s.state) }

// Realms is [Store.List] for programs that have no keys to tokens.
func Realms(ctx context.Context, s *state.Store) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	realms, err := s.Redis().SMembers(ctx, realmsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list realms: %w", err)
	}
	slices.Sort(realms)
	return realms, nil
}

// SetState puts a realm into a state, with a reason for people to read. A realm
// without a token cannot be made live; connect it.
func (s *Store) SetState(ctx context.Context, realm string, to State, reason string) error {
	if !slices.Contains(States(), to) {
		return fmt.Errorf("state of realm %s: %q is not a state", realm, to)
	}
	_, err := s.setState(ctx, realm, "", to, reason)
	return err
}

// Disconnect forgets a realm's tokens; cursors and marks stay. It does not
// revoke them at Intuit: do that before, with the token of Get.
func (s *Store) Disconnect(ctx context.Context, realm string) error {
	_, err := s.setState(ctx, realm, "", Disconnected, "disconnected by request")
	return err
}

// setState reports false if the realm no longer has the generation, "" is any.
func (s *Store) setState(ctx context.Context, realm, generation string, to State, reason string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done, err := setStateScript.Run(ctx, s.db, []string{connKey(realm)}, generation, string(to), reason, s.stamp()).Int()
	s.forgetKnown(realm)
	if done == 1 {
		s.index(ctx, realm)
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("put realm %s into state %s: %w", realm, to, err)
	case done == -1:
		return false, fmt.Errorf("realm %s: %w", realm, ErrNotConnected)
	case done == -2:
		return false, fmt.Errorf("realm %s has no token: %w", realm, ErrReauthRequired)
	case done == 0:
		return false, nil
	}
	return true, nil
}

// record is a connection and what only this package needs to know of it.
type record struct {
	Connection
	token    stored
	sealed   string // token
	previous string // sealed, too
	pending  string // so is this: the token of the consent that waits for approval
	rejected bool
	refused  *Refusal  // of the stored generation
	revoked  bool      // Intuit has confirmed that the authorisation ended
	check    time.Time // since when the token is to be checked; zero: it is not
	// openError says why the rest could not be read, in lists.
	openError error
}

func (s *Store) load(ctx context.Context, realm string) (record, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	fields, err := s.fields(ctx, realm)
	if err != nil {
		return record{}, fmt.Errorf("read the connection of realm %s: %w", realm, err)
	}
	return s.parse(realm, fields)
}

// fields reads what is stored of a realm, and Redis's clock with it.
func (s *Store) fields(ctx context.Context, realm string) (map[string]string, error) {
	if s.clock == nil {
		return s.db.HGetAll(ctx, connKey(realm)).Result()
	}
	pipe := s.db.Pipeline()
	fields, took := pipe.HGetAll(ctx, connKey(realm)), s.readClock(ctx, pipe)
	_, _ = pipe.Exec(ctx) // each command has its own error
	took()
	return fields.Result()
}

// readClock reads Redis's clock with other commands: a replica whose clock is wrong must
// not take a hold of minutes for one of hours, or keep a token that has expired.
func (s *Store) readClock(ctx context.Context, with redis.Cmdable) (took func()) {
	if s.clock == nil {
		return func() {}
	}
	set := s.clock.Reading()
	now := with.Time(ctx)
	return func() {
		if now.Err() == nil {
			set(now.Val())
		}
	}
}

// shared is a token that Intuit gave just now, with its deadlines by the clock that the
// replicas share.
func (s *Store) shared(t qbo.Token) qbo.Token {
	if s.clock == nil {
		return t
	}
	ahead := s.now().Sub(s.own())
	for _, at := range []*time.Time{&t.AccessExpires, &t.RefreshExpires, &t.RefreshHardExpires} {
		if !at.IsZero() {
			*at = at.Add(ahead)
		}
	}
	return t
}

// parse reads what is stored of a realm. If the token does not open, the rest is
// returned beside the error.
func (s *Store) parse(realm string, fields map[string]string) (record, error) {
	if len(fields) == 0 {
		return record{}, fmt.Errorf("realm %s: %w", realm, ErrNotConnected)
	}
	if State(fields[fieldState]) == erased {
		return record{}, fmt.Errorf("realm %s: %w", realm, ErrErased)
	}
	generation, err := strconv.ParseInt(fields[fieldGeneration], 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("read the connection of realm %s: its generation is not a number", realm)
	}
	r := record{
		Connection: Connection{
			RealmID: realm, App: fields[fieldApp], State: State(fields[fieldState]), Reason: fields[fieldReason],
			ConnectedAt: fromMillis(fields[fieldConnected]), ChangedAt: fromMillis(fields[fieldChanged]),
			LapsedAt: fromMillis(fields[fieldLapsed]), Generation: generation, Access: accessOf(fields),
		},
		sealed:   fields[fieldToken],
		previous: fields[fieldPrevious],
		pending:  fields[fieldPending],
		rejected: fields[fieldRejected] == fields[fieldGeneration],
	}
	if r.pending != "" {
		r.Consent = Held{App: fields[fieldPendingApp], At: fromMillis(fields[fieldPendingAt])}
	}
	r.HeldUntil, r.check, r.Late = fromMillis(fields[fieldHeld]), fromMillis(fields[fieldCheck]), late(fields)
	r.revoked = revoked(fields[fieldRevoked], r.Connection)
	r.refused = refusalOf(fields[fieldRefusal], generation)
	r.Refusal = r.refusal()
	r.RefreshRefusal = refreshRefusalOf(fields[fieldUnanswered], generation)
	if r.token, err = s.keys.Load().openToken(realm, r.sealed); err != nil {
		return r, fmt.Errorf("realm %s: %w", realm, err)
	}
	r.Token, r.ClientID = r.token.Token, r.token.client
	return r, nil
}

// refusalOf reads a stored refusal, if it is about the token of that generation.
func refusalOf(text string, generation int64) *Refusal {
	var r Refusal
	if text == "" || json.Unmarshal([]byte(text), &r) != nil || r.Generation != generation {
		return nil
	}
	return &r
}

func fromMillis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
