package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// guardedFeed is a QuickBooks, servers that ask for passwords, and the services in
// processes of their own that have all secrets in mounted files.
type guardedFeed struct {
	t        *testing.T
	servers  *devtest.Guarded
	sim      *qbosim.Sim
	intuit   *httptest.Server
	away     atomic.Bool   // Intuit answers nothing
	app      atomic.Value  // the client secret that Intuit takes
	granted  atomic.Uint64 // tokens given to the app with it
	host     string
	mount    string            // what Kubernetes mounts
	secrets  map[string]string // by file
	version  int
	listen   map[string]string // of ingress and console
	admin    map[string]string // by service
	running  map[string]*process
	changes  sync.WaitGroup
	made     atomic.Int64
	changing atomic.Bool
}

const (
	guardedRealm = "9341453000000077"
	services     = "ingress processor reconciler console"
)

func newGuardedFeed(t *testing.T, host string) *guardedFeed {
	t.Helper()
	f := &guardedFeed{
		t: t, host: host, servers: devtest.StartGuarded(t, host, "first-password"), mount: t.TempDir(),
		listen: map[string]string{}, admin: map[string]string{}, running: map[string]*process{},
	}
	f.listen["ingress"], f.listen["console"] = f.free(), f.free()
	f.startIntuit()
	f.secrets = map[string]string{
		"redis": f.servers.RedisURL("first-password"), "nats": "first-password", "apps": "books=first-verifier-token",
		"sinks": "postgres:" + f.servers.PostgresURL("first-password"), "client-id": "app", "client-secret": "first-client-secret",
		"keys": ringKey("k1"),
	}
	f.publish()
	return f
}

func (f *guardedFeed) free() string {
	l, err := net.Listen("tcp", net.JoinHostPort(f.host, "0"))
	require.NoError(f.t, err)
	defer l.Close()
	return l.Addr().String()
}

// startIntuit puts a QuickBooks behind a token endpoint whose client secret can be changed.
func (f *guardedFeed) startIntuit() {
	var err error
	f.sim, err = qbosim.New(qbosim.Options{
		Seed: 3, ClientID: "app", ClientSecret: "hush", VerifierToken: "first-verifier-token", Aggregate: 50 * time.Millisecond, RetryScale: 0.01,
		WebhookURL: "http://" + f.listen["ingress"] + "/webhooks/books",
	})
	require.NoError(f.t, err)
	f.app.Store("first-client-secret")
	f.sim.AddRealm(guardedRealm)
	f.intuit = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.away.Load() {
			panic(http.ErrAbortHandler)
		}
		if id, password, ok := r.BasicAuth(); ok {
			if id != "app" || password != f.app.Load() {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
				return
			}
			f.granted.Add(1)
			r.SetBasicAuth("app", "hush")
		}
		f.sim.Handler().ServeHTTP(w, r)
	}))
	require.NoError(f.t, f.intuit.Listener.Close())
	f.intuit.Listener, err = net.Listen("tcp", net.JoinHostPort(f.host, "0"))
	require.NoError(f.t, err)
	f.intuit.Start()
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() { _ = f.sim.Run(ctx) })
	f.t.Cleanup(func() {
		cancel()
		sending.Wait()
		f.intuit.Close()
		require.NoError(f.t, f.sim.Close())
	})
}

// publish mounts the secrets as a kubelet does: a new directory, and a link that is swapped.
func (f *guardedFeed) publish() {
	f.t.Helper()
	f.version++
	dir := filepath.Join(f.mount, fmt.Sprintf("..v%d", f.version))
	require.NoError(f.t, os.Mkdir(dir, 0o700))
	for name, text := range f.secrets {
		write(f.t, filepath.Join(dir, name), text)
		if f.version == 1 {
			require.NoError(f.t, os.Symlink(filepath.Join("..data", name), filepath.Join(f.mount, name)))
		}
	}
	link := filepath.Join(f.mount, "..data")
	old, _ := os.Readlink(link)
	require.NoError(f.t, os.Symlink(filepath.Base(dir), link+"_tmp"))
	require.NoError(f.t, os.Rename(link+"_tmp", link))
	if old != "" {
		require.NoError(f.t, os.RemoveAll(filepath.Join(f.mount, old)))
	}
}

// set publishes one secret.
func (f *guardedFeed) set(name, text string) {
	f.t.Helper()
	f.secrets[name] = text
	f.publish()
}

// connect connects the company, as a consent does.
func (f *guardedFeed) connect() {
	f.t.Helper()
	access, refresh := f.sim.Connect(guardedRealm)
	now := time.Now()
	require.NoError(f.t, f.connections().Connect(f.t.Context(), guardedRealm, "books", qbo.Token{
		Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
		RefreshExpires: now.AddDate(0, 0, 100), RefreshHardExpires: now.AddDate(5, 0, 0),
	}))
}

// connections are those in Redis, by the present secrets.
func (f *guardedFeed) connections() *connection.Store {
	f.t.Helper()
	store, err := state.Open(f.t.Context(), state.Options{Config: state.Config{URL: secret.String(f.secrets["redis"])}})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = store.Close() })
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "unused", TokenURL: f.intuit.URL})
	require.NoError(f.t, err)
	var keys []secret.String
	for key := range strings.SplitSeq(f.secrets["keys"], ",") {
		keys = append(keys, secret.String(key))
	}
	connections, err := connection.New(connection.Options{State: store, Config: connection.Config{Keys: keys}, Refresher: oauth})
	require.NoError(f.t, err)
	return connections
}

// start starts the services.
func (f *guardedFeed) start() {
	f.t.Helper()
	for name := range strings.FieldsSeq(services) {
		f.admin[name] = f.free()
		env := map[string]string{
			"ADMIN_LISTEN": f.admin[name], "LOG_LEVEL": "info",
			"NATS_URL": f.servers.NATSURL(), "NATS_PROFILE": "dev", "NATS_USER": devtest.GuardedUser, "NATS_PASSWORD_FILE": f.file("nats"),
			"REDIS_URL_FILE": f.file("redis"), "CONNECTION_KEYS_FILE": f.file("keys"),
			"QBO_BASE_URL": f.intuit.URL, "QBO_TOKEN_URL": f.intuit.URL + "/oauth2/v1/tokens/bearer",
			"QBO_CLIENT_ID_FILE": f.file("client-id"), "QBO_CLIENT_SECRET_FILE": f.file("client-secret"),
			"INGRESS_LISTEN": f.listen["ingress"], "INGRESS_APPS_FILE": f.file("apps"),
			"PROCESSOR_SINKS_FILE": f.file("sinks"), "RECONCILER_START_JITTER": "0s", "RECONCILER_GRACE": "0s", "RECONCILER_INTERVAL": "5s",
			"RECONCILER_MIN_INTERVAL": "1s", "CONSOLE_LISTEN": f.listen["console"], "CONSOLE_TOKEN": "a token of twenty letters",
		}
		program, args := name, []string(nil)
		if name == "console" {
			program, args = "ledgerfeed", []string{"console"}
		}
		f.running[name] = f.run(program, args, env)
	}
}

func (f *guardedFeed) file(name string) string { return filepath.Join(f.mount, name) }

func (f *guardedFeed) run(program string, args []string, env map[string]string) *process {
	f.t.Helper()
	p := &process{t: f.t, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = &p.stdout, &p.stderr, f.t.TempDir()
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.t.TempDir(), "PGPASSFILE=" + os.Getenv("PGPASSFILE")}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		p.cmd.Env = append(p.cmd.Env, "LEDGERFEED_"+name+"="+env[name])
	}
	require.NoError(f.t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	f.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if f.t.Failed() {
			f.t.Logf("%s\n%s", program, last(p.stderr.String(), 6000))
		}
	})
	return p
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }

// probe asks an admin endpoint.
func (f *guardedFeed) probe(service, path string) (status int, body string) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Second) // as the manifests have it
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin[service]+path, nil)
	require.NoError(f.t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// ready waits until each service is.
func (f *guardedFeed) ready() {
	f.t.Helper()
	for name := range strings.FieldsSeq(services) {
		require.Eventually(f.t, func() bool { status, _ := f.probe(name, "/readyz"); return status == http.StatusOK }, patience, 50*time.Millisecond, name)
	}
}

// alive requires that none has ended.
func (f *guardedFeed) alive() {
	f.t.Helper()
	for name, p := range f.running {
		require.False(f.t, p.over(), "%s has ended", name)
	}
}

// change makes changes until stop is called.
func (f *guardedFeed) change() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	f.changing.Store(true)
	f.changes.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_, _ = f.sim.Step(guardedRealm)
				f.made.Add(1)
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); f.changes.Wait(); f.changing.Store(false) })
	f.t.Cleanup(stop)
	return stop
}

// missing is a record that the database does not hold as it was in QuickBooks, or newer;
// empty is none.
func (f *guardedFeed) missing(truth map[qbosim.Ref]qbosim.State) string {
	conn, err := pgx.Connect(f.t.Context(), strings.TrimPrefix(f.secrets["sinks"], "postgres:"))
	if err != nil {
		return err.Error()
	}
	defer conn.Close(f.t.Context())
	rows, err := conn.Query(f.t.Context(), `select entity, id, version, deleted from ledgerfeed.entity where realm = $1`, guardedRealm)
	if err != nil {
		return err.Error()
	}
	held := map[qbosim.Ref]int64{}
	var entity, id string
	var version int64
	var deleted bool
	_, err = pgx.ForEachRow(rows, []any{&entity, &id, &version, &deleted}, func() error {
		held[qbosim.Ref{Realm: guardedRealm, Entity: entity, ID: id}] = version
		return nil
	})
	if err != nil {
		return err.Error()
	}
	now := f.sim.Truth(guardedRealm)
	for ref, want := range truth {
		if held[ref] < want.Version && (!now[ref].Deleted || held[ref] > 0) { // gone before it was read
			return fmt.Sprintf("%v: %d instead of %d", ref, held[ref], want.Version)
		}
	}
	return ""
}

// lazy is a message that is made when it is needed.
type lazy func() string

func (l lazy) String() string { return l() }

// whole waits until the database holds everything there is now, ten changes from now
// included where changes are made, and requires that nothing was given up.
func (f *guardedFeed) whole() {
	f.t.Helper()
	if f.changing.Load() {
		made := f.made.Load()
		require.Eventually(f.t, func() bool { return f.made.Load() >= made+10 }, patience, 10*time.Millisecond)
	}
	truth, why := f.sim.Truth(guardedRealm), "nothing was compared"
	require.NotEmpty(f.t, truth)
	require.Eventually(f.t, func() bool { why = f.missing(truth); return why == "" }, patience, 200*time.Millisecond, "%s", lazy(func() string { return why }))
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile, cfg.User, cfg.Password = f.servers.NATSURL(), stream.Dev, devtest.GuardedUser, secret.String(f.secrets["nats"])
	conn, err := stream.Connect(f.t.Context(), stream.Options{Config: cfg, Name: "test"})
	require.NoError(f.t, err)
	defer conn.Close()
	all, err := conn.Usage(f.t.Context())
	require.NoError(f.t, err)
	for _, u := range all {
		if u.Stream == stream.DeadStream {
			require.Zero(f.t, u.Messages, "dead letters")
		}
	}
	f.alive()
}

// said reports whether a service has logged a line with all these texts.
func (f *guardedFeed) said(service string, texts ...string) (n int) {
	for line := range strings.Lines(f.running[service].stderr.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) && json.Valid([]byte(line)) {
			n++
		}
	}
	return n
}
