package connection_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// The points at which a process is killed during a refresh.
const (
	beforeAsking  = "before asking" // the lease is taken
	beforeStoring = "before storing"
	afterStoring  = "after storing" // the lease is still held
)

func TestToken_AfterACrash(t *testing.T) {
	for _, tc := range []struct {
		name   string
		at     string
		sticky bool
		want   connection.State
	}{
		{"before asking, rotated each time", beforeAsking, false, connection.Live},
		{"after storing, rotated each time", afterStoring, false, connection.Live},
		{"before storing, rotated daily as Intuit does", beforeStoring, true, connection.Live},
		// The new token died with the process, and the stored one is void: see
		// the package's doc.
		{"before storing, rotated each time", beforeStoring, false, connection.ReauthRequired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, b *bundle) {
				s := b.replica()
				first := b.connect(s)
				b.reject(s, first.Access)
				second := b.token(s) // so that there is one before it
				b.intuit.set(func() { b.intuit.sticky = tc.sticky })
				b.reject(s, second)
				b.die(tc.at)
				b.dropLease()

				if tc.want == connection.ReauthRequired {
					require.ErrorIs(t, b.tokenErr(s), connection.ErrReauthRequired)
				} else {
					require.NotEqual(t, second, b.token(s))
				}
				require.Equal(t, tc.want, b.get(s).State)
				_, _, atOnce := b.intuit.counts()
				require.Equal(t, 1, atOnce)
			})
		})
	}
}

// A dead process does not hold the others up while the old token works.
func TestToken_DuringADeadProcessesLease(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		token := b.intuit.authorize(b.now())
		token.AccessExpires = b.now().Add(time.Minute) // an hour's token, soon over
		require.NoError(t, s.Connect(t.Context(), realm, "books", token))
		b.setNow(time.Now().Add(55 * time.Second))
		b.die(beforeAsking)
		require.Equal(t, token.Access, b.token(s))
	})
}

// TestChild is what the tests above kill.
func TestChild(t *testing.T) {
	at := os.Getenv("CONNECTION_CRASH")
	if at == "" {
		return
	}
	st, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(os.Getenv("CONNECTION_REDIS"))}})
	require.NoError(t, err)
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "app-secret-", TokenURL: os.Getenv("CONNECTION_INTUIT")})
	require.NoError(t, err)
	killer := &killer{Refresher: oauth, at: at}
	st.Redis().AddHook(killer)
	s, err := connection.New(connection.Options{
		State: st, Config: connection.Config{Keys: []secret.String{key("k1")}}, Refresher: killer,
		// Whatever the token, it is over.
		Now: func() time.Time { return time.Now().Add(24 * time.Hour) },
	})
	require.NoError(t, err)
	token, err := s.Token(t.Context(), realm)
	t.Fatalf("still alive: %t, %v", token != "", err)
}

// die runs a process that refreshes the realm's token and is killed at a point.
func (b *bundle) die(at string) {
	b.t.Helper()
	exe, err := os.Executable()
	require.NoError(b.t, err)
	cmd := exec.Command(exe, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "CONNECTION_CRASH="+at, "CONNECTION_REDIS="+b.redisURL, "CONNECTION_INTUIT="+b.intuit.url)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(b.t, err, &exit, "%s", out)
	require.Equal(b.t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)
	b.see(string(out))
}

// killer is a refresher and a Redis hook that end the process.
type killer struct {
	connection.Refresher
	at string

	mu       sync.Mutex // guards answered
	answered bool
}

func (k *killer) die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (k *killer) Refresh(ctx context.Context, refresh secret.String) (qbo.Token, error) {
	if k.at == beforeAsking {
		k.die()
	}
	token, err := k.Refresher.Refresh(ctx, refresh)
	if err == nil && k.at == beforeStoring {
		k.die()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answered = true
	return token, err
}

func (k *killer) DialHook(next redis.DialHook) redis.DialHook { return next }
func (k *killer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (k *killer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		k.mu.Lock()
		defer k.mu.Unlock()
		if err == nil && k.answered && strings.HasPrefix(cmd.Name(), "eval") {
			k.die()
		}
		return err
	}
}

func TestToken_NewestSurvivesARestartOfRedis(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	s := b.replica()
	first := b.connect(s)
	token := first.Access
	for range 5 {
		b.reject(s, token)
		token = b.token(s)
		server.Kill()
		server.Start()
		require.Equal(t, token, b.token(s))
		require.Equal(t, token, b.token(b.replica()))
	}
	_, refused, _ := b.intuit.counts()
	require.Zero(t, refused)
}

// Redis goes away while Intuit answers, and comes back a moment later.
func TestToken_StoredWhenRedisComesBack(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	s := b.replica()
	first := b.connect(s)
	b.reject(s, first.Access)
	answered := make(chan struct{})
	b.intuit.set(func() {
		b.intuit.after = func(string) {
			server.Kill()
			close(answered)
		}
	})
	got := make(chan secret.String)
	go func() {
		token, err := s.Token(t.Context(), realm)
		if err != nil {
			t.Error(err)
		}
		got <- token
	}()
	<-answered
	server.Start()
	token := <-got
	require.NotEqual(t, first.Access, token)
	require.Equal(t, token, b.token(b.replica()))
	_, refused, _ := b.intuit.counts()
	require.Zero(t, refused)
}

// Redis stays away: the new token waits in memory, even while another replica,
// which knows only the void one, gives the realm up.
func TestToken_KeptInMemoryUntilItCanBeStored(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	s, other := b.replica(), b.replica()
	s.SetSaveFor(50 * time.Millisecond)
	first := b.connect(s)
	b.reject(s, first.Access)
	b.intuit.set(func() { b.intuit.after = func(string) { server.Kill() } })
	b.tokenErr(s)
	b.intuit.set(func() { b.intuit.after = nil })
	b.tokenErr(s)
	server.Start()

	b.dropLease()
	require.ErrorIs(t, b.tokenErr(other), connection.ErrReauthRequired)

	token := b.token(s)
	require.NotEqual(t, first.Access, token)
	require.Equal(t, token, b.token(other))
	require.Equal(t, connection.Live, b.get(other).State)
	refreshes, refused, _ := b.intuit.counts()
	require.Equal(t, 1, refreshes)
	require.Equal(t, 1, refused)
}
