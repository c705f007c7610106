package connection_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

const (
	workerProcesses  = 5
	workersEach      = 10
	rejectionsOfEach = 40
)

// Fifty workers in five processes, where every refresh rotates the token and every
// token is refused soon: one refresh at a time, and each finds the newest token.
func TestToken_FiftyWorkersInFiveProcesses(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.RealRedis(t))
	b.connect(b.replica())
	b.wait(b.work(workerProcesses))
	refreshes, refused, atOnce := b.intuit.counts()
	require.Zero(t, refused, "invalid_grant")
	require.Equal(t, 1, atOnce)
	require.GreaterOrEqual(t, refreshes, rejectionsOfEach)
	c := b.get(b.replica())
	require.EqualValues(t, refreshes+1, c.Generation, "each was stored once")
	require.Equal(t, connection.Live, c.State)
	t.Logf("%d workers: %d refreshes, %d at a time, %d refused", workerProcesses*workersEach, refreshes, atOnce, refused)
}

// The same while a process is killed with the lease in its hand, and Redis is killed
// and started again: I7.
func TestToken_WorkersOutliveAKillAndARestartOfRedis(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	b.connect(b.replica())
	running := b.work(workerProcesses)
	for _, at := range []string{beforeAsking, afterStoring} {
		b.die(at)
		b.dropLease()
		server.Kill()
		server.Start()
	}
	before, _, _ := b.intuit.counts()
	b.wait(running)
	refreshes, refused, atOnce := b.intuit.counts()
	require.Greater(t, refreshes, before, "the workers were at it all the time")
	require.Zero(t, refused, "invalid_grant")
	require.Equal(t, 1, atOnce)
	c := b.get(b.replica())
	require.EqualValues(t, refreshes+1, c.Generation)
	b.intuit.set(func() { require.Equal(t, b.intuit.valid, c.Token.Refresh.Reveal(), "the newest one is the stored one") })
	t.Logf("%d refreshes, %d at a time, %d refused", refreshes, atOnce, refused)
}

// work starts processes of workers on the realm.
func (b *bundle) work(processes int) []*exec.Cmd {
	b.t.Helper()
	exe, err := os.Executable()
	require.NoError(b.t, err)
	var all []*exec.Cmd
	for range processes {
		cmd := exec.CommandContext(b.t.Context(), exe, "-test.run=^TestWorkers$", "-test.v")
		cmd.Env = append(os.Environ(), "CONNECTION_WORKERS=1", "CONNECTION_REDIS="+b.redisURL, "CONNECTION_INTUIT="+b.intuit.url)
		out := &strings.Builder{}
		cmd.Stdout, cmd.Stderr = out, out
		require.NoError(b.t, cmd.Start())
		all = append(all, cmd)
	}
	return all
}

func (b *bundle) wait(processes []*exec.Cmd) {
	b.t.Helper()
	for _, cmd := range processes {
		err := cmd.Wait()
		out := cmd.Stdout.(*strings.Builder).String()
		b.see(out)
		if err != nil {
			b.t.Errorf("workers: %v\n%s", err, out)
		}
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// TestWorkers is one of those processes.
func TestWorkers(t *testing.T) {
	if os.Getenv("CONNECTION_WORKERS") == "" {
		return
	}
	st, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(os.Getenv("CONNECTION_REDIS"))}})
	require.NoError(t, err)
	defer st.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "app-secret-", TokenURL: os.Getenv("CONNECTION_INTUIT"), HTTP: client})
	require.NoError(t, err)
	s, err := connection.New(connection.Options{State: st, Config: connection.Config{Keys: []secret.String{key("k1")}}, Refresher: oauth})
	require.NoError(t, err)
	s.RefreshOnEvery401()
	var wg sync.WaitGroup
	for w := range workersEach {
		wg.Go(func() {
			for range rejectionsOfEach {
				if err := rejectOne(t, s); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// rejectOne uses a token, has it refused, and wants another one. While Redis is away
// it tries again.
func rejectOne(t *testing.T, s *connection.Store) error {
	var token secret.String
	for _, step := range []func() error{
		func() (err error) { token, err = s.Token(t.Context(), realm); return err },
		func() error { return s.Rejected(t.Context(), realm, token) },
		func() error {
			next, err := s.Token(t.Context(), realm)
			if err == nil && next == token {
				return errSameToken
			}
			return err
		},
	} {
		deadline := time.Now().Add(time.Minute)
		for {
			err := step()
			if err == nil {
				break
			}
			if errors.Is(err, errSameToken) || errors.Is(err, connection.ErrReauthRequired) || time.Now().After(deadline) {
				return fmt.Errorf("after %s: %w", time.Until(deadline), err)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	return nil
}

var errSameToken = errors.New("the refused token came back")
