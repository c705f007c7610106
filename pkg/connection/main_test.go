package connection_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ qbo.TokenSource = (*connection.Store)(nil)

const realm = "9341453"

// intuit is a token endpoint that is stricter than Intuit's: unless sticky, each
// refresh voids the token it was made with.
type intuit struct {
	url string

	mu         sync.Mutex // guards the rest
	valid      string     // the refresh token that works
	sticky     bool       // the same refresh token comes back, as within a day
	lifetime   time.Duration
	issued     int
	refreshes  int
	refused    int
	under, top int
	fail       int                 // answer with that status
	before     func(token string)  // runs before the answer is decided
	after      func(access string) // runs before the answer is sent
}

func startIntuit(t testing.TB) *intuit {
	t.Helper()
	i := &intuit{lifetime: time.Hour}
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

// issue is a new pair of tokens. All secrets of these tests have "-secret-" in
// them, so that none can be seen unnoticed.
func (i *intuit) issue() (access, refresh string) {
	i.issued++
	return fmt.Sprintf("at-secret-%d-", i.issued), fmt.Sprintf("rt-secret-%d-", i.issued)
}

// authorize is what a person's consent leads to.
func (i *intuit) authorize(now time.Time) qbo.Token {
	i.mu.Lock()
	defer i.mu.Unlock()
	access, refresh := i.issue()
	i.valid = refresh
	return qbo.Token{
		Access: secret.String(access), Refresh: secret.String(refresh),
		AccessExpires: now.Add(i.lifetime), RefreshExpires: now.Add(100 * 24 * time.Hour),
		RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
	}
}

func (i *intuit) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *intuit) counts() (refreshes, refused, atOnce int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.refreshes, i.refused, i.top
}

func (i *intuit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.under++
	i.top = max(i.top, i.under)
	before, after := i.before, i.after
	i.mu.Unlock()
	defer i.set(func() { i.under-- })

	token := r.FormValue("refresh_token")
	if before != nil {
		before(token)
	}
	status, body, access := i.answer(token)
	if after != nil {
		after(access)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func (i *intuit) answer(token string) (status int, body, access string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.fail != 0:
		return i.fail, "<html>out of order</html>", ""
	case token != i.valid:
		i.refused++
		// The worst that could be in there.
		return 400, `{"error":"invalid_grant","error_description":"Incorrect token ` + token + `"}`, ""
	}
	i.refreshes++
	access, refresh := i.issue()
	if i.sticky {
		refresh = token
	}
	i.valid = refresh
	return 200, fmt.Sprintf(`{"access_token":%q,"refresh_token":%q,"expires_in":%d,"x_refresh_token_expires_in":8640000}`,
		access, refresh, int(i.lifetime.Seconds())), access
}

// bundle is a realm's Intuit, a Redis and the stores of some replicas.
type bundle struct {
	t        testing.TB
	intuit   *intuit
	redisURL string
	logs     *observer.ObservedLogs
	core     zapcore.Core

	mu  sync.Mutex // guards the rest
	at  time.Time  // the replicas' clock; zero is the real one
	dbs map[*connection.Store]redis.UniversalClient
	all []string // texts that may hold no secret
}

func setup(t testing.TB, redisURL string) *bundle {
	t.Helper()
	b := &bundle{t: t, intuit: startIntuit(t), redisURL: redisURL, dbs: map[*connection.Store]redis.UniversalClient{}}
	b.core, b.logs = observer.New(zapcore.DebugLevel)
	t.Cleanup(b.noSecrets)
	return b
}

func (b *bundle) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() {
		return time.Now()
	}
	return b.at
}

func (b *bundle) setNow(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = at
}

// key is a key for the ring; each id always is the same one.
func key(id string) secret.String {
	return secret.String(id + ":" + base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%-32s", "key-secret-"+id))))
}

// replica is a store of its own, as another process would have. Many tests need more
// refreshes than a 401 may cause.
func (b *bundle) replica(keys ...secret.String) *connection.Store {
	b.t.Helper()
	s := b.bounded(keys...)
	s.RefreshOnEvery401()
	return s
}

// bounded is a replica as it is in service.
func (b *bundle) bounded(keys ...secret.String) *connection.Store {
	b.t.Helper()
	if len(keys) == 0 {
		keys = []secret.String{key("k1")}
	}
	st, err := state.Open(b.t.Context(), state.Options{Config: state.Config{URL: secret.String(b.redisURL)}, Timeout: time.Second})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { st.Close() })
	s, err := connection.New(connection.Options{
		State: st, Config: connection.Config{Keys: keys}, Refresher: b.oauth(), Now: b.now, Logger: zap.New(b.core),
	})
	require.NoError(b.t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dbs[s] = st.Redis()
	return s
}

// hook calls f around each command of a replica: f runs the command by next.
func (b *bundle) hook(s *connection.Store, f func(cmd redis.Cmder, next func() error) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dbs[s].AddHook(hook(f))
}

// onLease calls f before each attempt of a replica to take the lease.
func (b *bundle) onLease(s *connection.Store, f func()) {
	b.hook(s, func(cmd redis.Cmder, next func() error) error {
		if args := cmd.Args(); cmd.Name() == "evalsha" && strings.Contains(fmt.Sprint(args[3]), ":lease:") {
			f()
		}
		return next()
	})
}

type hook func(cmd redis.Cmder, next func() error) error

func (hook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h(cmd, func() error { return next(ctx, cmd) })
	}
}

func (b *bundle) oauth() *qbo.OAuth {
	client := &http.Client{Transport: &http.Transport{}}
	b.t.Cleanup(client.CloseIdleConnections)
	o, err := qbo.NewOAuth(qbo.OAuthOptions{
		ClientID: "app", ClientSecret: "app-secret-", TokenURL: b.intuit.url, HTTP: client, Timeout: 10 * time.Second, Now: b.now,
	})
	require.NoError(b.t, err)
	return o
}

// connect connects the realm as after a consent.
func (b *bundle) connect(s *connection.Store) qbo.Token {
	b.t.Helper()
	token := b.intuit.authorize(b.now())
	require.NoError(b.t, s.Connect(b.t.Context(), realm, "books", token))
	return token
}

func (b *bundle) token(s *connection.Store) secret.String {
	b.t.Helper()
	token, err := s.Token(b.t.Context(), realm)
	require.NoError(b.t, err)
	require.NotEmpty(b.t, token)
	return token
}

func (b *bundle) tokenErr(s *connection.Store) error {
	b.t.Helper()
	token, err := s.Token(b.t.Context(), realm)
	require.Error(b.t, err)
	require.Empty(b.t, token)
	b.see(err)
	return err
}

func (b *bundle) reject(s *connection.Store, token secret.String) {
	b.t.Helper()
	require.NoError(b.t, s.Rejected(b.t.Context(), realm, token))
}

func (b *bundle) get(s *connection.Store) connection.Connection {
	b.t.Helper()
	c, err := s.Get(b.t.Context(), realm)
	require.NoError(b.t, err)
	return c
}

// see remembers texts that strangers could see.
func (b *bundle) see(x ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range x {
		b.all = append(b.all, fmt.Sprintf("%v %+v %#v %q", v, v, v, fmt.Sprint(v)))
	}
}

// noSecrets looks for secrets in all errors and log lines of the test.
func (b *bundle) noSecrets() {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	for _, entry := range b.logs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			b.t.Error(err)
			continue
		}
		b.see(line.String())
	}
	for _, text := range b.all {
		if strings.Contains(text, "-secret-") || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("key-secret-"))) {
			b.t.Errorf("a secret shows: %s", text)
		}
	}
}

// shared is held by the test that uses the server of REDIS_URL.
var shared sync.Mutex

func embedded(t testing.TB) string {
	t.Helper()
	if os.Getenv("REDIS_URL") != "" {
		shared.Lock()
		t.Cleanup(shared.Unlock)
	}
	return devtest.Redis(t)
}

// everywhere runs a test on the embedded Redis and on redis-server.
func everywhere(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Helper()
	t.Parallel()
	for name, start := range map[string]func(testing.TB) string{"embedded": embedded, "redis": devtest.RealRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, setup(t, start(t)))
		})
	}
}

// redis is a client to look behind the scenes with.
func (b *bundle) redis() redis.UniversalClient {
	b.t.Helper()
	st, err := state.Open(b.t.Context(), state.Options{Config: state.Config{URL: secret.String(b.redisURL)}})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { st.Close() })
	return st.Redis()
}

// dropLease lets the lease of a dead process run out.
func (b *bundle) dropLease() {
	b.t.Helper()
	db := b.redis()
	leases, err := db.Keys(b.t.Context(), "lf:tmp:1:lease:*").Result()
	require.NoError(b.t, err)
	require.Len(b.t, leases, 1)
	require.NoError(b.t, db.Del(b.t.Context(), leases...).Err())
}

// dump is all that Redis holds of the connections.
func (b *bundle) dump() string {
	b.t.Helper()
	db := b.redis()
	var out strings.Builder
	keys, err := db.Keys(b.t.Context(), "lf:1:conn:*").Result()
	require.NoError(b.t, err)
	for _, k := range keys {
		fields, err := db.HGetAll(b.t.Context(), k).Result()
		require.NoError(b.t, err)
		fmt.Fprintln(&out, k, fields)
	}
	return out.String()
}

func withTimeout(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
