package e2e_test

import (
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets/secretstest"
)

// securedFeed is NATS, Redis and PostgreSQL as docker-compose.yml starts them, and each service
// in a process of its own, with its own users and no others.
type securedFeed struct {
	*guardedFeed
	dir   string // of the secrets
	books string // PostgreSQL's address
	nats  string
	redis string
}

func newSecuredFeed(t *testing.T) *securedFeed {
	t.Helper()
	const deploy = "../../../deploy"
	f := &securedFeed{
		guardedFeed: &guardedFeed{t: t, host: "127.0.0.1", listen: map[string]string{}, admin: map[string]string{}, running: map[string]*process{}},
		dir:         filepath.Join(t.TempDir(), "run", "secrets"),
	}
	require.NoError(t, secrets.Make(secrets.Options{Dir: f.dir, IngressApps: "books=first-verifier-token", ClientSecret: "first-client-secret"}))
	f.nats = devtest.StartNATSConfig(t, secretstest.NATSOptions(t, deploy+"/nats", f.dir)).Addr().String()
	f.redis = secretstest.Redis(t, deploy, f.dir)
	db, _ := secretstest.Postgres(t, deploy, f.dir)
	f.books = db.Addr()
	f.listen["ingress"], f.listen["console"] = f.free(), f.free()
	f.startIntuit()
	return f
}

func (f *securedFeed) secret(name string) string { return filepath.Join(f.dir, name) }

// redisURL is that of a service.
func (f *securedFeed) redisURL(service string) string {
	u, err := url.Parse(strings.TrimSpace(read(f.t, f.secret("redis_"+service+"_url"))))
	require.NoError(f.t, err)
	u.Host = f.redis
	return u.String()
}

// env are the settings of a service, as docker-compose.yml has them.
func (f *securedFeed) env(service string) map[string]string {
	env := map[string]string{
		"ADMIN_LISTEN": f.admin[service], "LOG_LEVEL": "info",
		"NATS_URL": "tls://" + f.nats, "NATS_CA_FILE": f.secret("ca.crt"), "NATS_SETUP": "verify", "NATS_PROFILE": "dev", "NATS_NKEY_FILE": f.secret("nats_" + service + ".nk"),
		"QBO_BASE_URL": f.intuit.URL, "QBO_TOKEN_URL": f.intuit.URL + "/oauth2/v1/tokens/bearer", "QBO_CLIENT_ID": "app", "QBO_CLIENT_SECRET_FILE": f.secret("qbo_client_secret"),
		"INGRESS_LISTEN": f.listen["ingress"], "INGRESS_APPS_FILE": f.secret("ingress_apps"),
		"PROCESSOR_SINKS": "postgres:" + f.url("ledgerfeed"), "PROCESSOR_POSTGRES_SETUP": "verify",
		"RECONCILER_START_JITTER": "0s", "RECONCILER_GRACE": "0s", "RECONCILER_INTERVAL": "5s", "RECONCILER_MIN_INTERVAL": "1s",
		"CONSOLE_LISTEN": f.listen["console"], "CONSOLE_TOKEN_FILE": f.secret("console_token"),
	}
	if service != "ingress" && service != "setup" {
		env["REDIS_URL"], env["REDIS_CA_FILE"], env["CONNECTION_KEYS_FILE"] = f.redisURL(service), f.secret("ca.crt"), f.secret("connection_keys")
	}
	return env
}

func (f *securedFeed) url(role string) string {
	return "postgres://" + role + "@" + f.books + "/books?sslmode=verify-full&sslrootcert=" + f.secret("ca.crt")
}

// run starts a program; only who writes to PostgreSQL has a password for it.
func (f *securedFeed) run(service string) *process {
	f.t.Helper()
	program, args := service, []string(nil)
	env := f.env(service)
	passwords := ""
	switch service {
	case "console":
		program, args = "ledgerfeed", []string{"console"}
	case "setup":
		program, args, passwords = "ledgerfeed", []string{"setup"}, f.secret("pgpass_setup")
		env["SETUP_POSTGRES_USER"] = "ledgerfeed_setup"
	case "processor":
		passwords = f.secret("pgpass_writer")
	}
	f.t.Setenv("PGPASSFILE", passwords)
	return f.guardedFeed.run(program, args, env)
}

func (f *securedFeed) start() {
	f.t.Helper()
	for name := range strings.FieldsSeq(services) {
		f.admin[name] = f.free()
		f.running[name] = f.run(name)
	}
}

// held is how many records the database has, as the role that writes sees it.
func (f *securedFeed) held() (n int) {
	f.t.Setenv("PGPASSFILE", f.secret("pgpass_writer"))
	conn, err := pgx.Connect(f.t.Context(), f.url("ledgerfeed"))
	if err != nil {
		return 0
	}
	defer conn.Close(f.t.Context())
	if err := conn.QueryRow(f.t.Context(), "SELECT count(*) FROM ledgerfeed.entity").Scan(&n); err != nil {
		return 0
	}
	return n
}

// Before the setup no service is ready, each says what to run, and none has made anything.
// After it changes arrive by webhook and by scan, with the users that each service has in the
// shipped deployment and no others; the console and the commands work, too.
func TestSecured_EachServiceWorksAsItsOwnUser(t *testing.T) {
	f := newSecuredFeed(t)
	f.start()
	for name := range strings.FieldsSeq(services) {
		require.Eventually(t, func() bool {
			status, body := f.probe(name, "/readyz")
			return status == http.StatusServiceUnavailable && strings.Contains(body, "run `ledgerfeed setup`")
		}, patience, 50*time.Millisecond, name)
	}
	f.alive()

	job := f.run("setup")
	require.Zero(t, job.code(), "%s", lazy(job.stderr.String))
	require.Contains(t, job.stdout.String(), "ok  streams")
	require.Contains(t, job.stdout.String(), "ok  tables of sink postgres, written by role ledgerfeed")
	f.ready()

	f.connect()
	stop := f.change()
	require.Eventually(t, func() bool { return f.held() > 5 }, patience, 100*time.Millisecond)
	stop()
	truth := f.sim.Truth(guardedRealm)
	require.Eventually(t, func() bool { return f.held() >= len(truth) }, patience, 200*time.Millisecond)
	f.alive()
	for name := range strings.FieldsSeq(services) {
		require.Zero(t, f.said(name, "broker denies a subject"), name)
		require.Zero(t, f.said(name, "NOPERM"), name)
		require.Zero(t, f.said(name, "permission denied"), name)
	}

	again := f.run("setup")
	require.Zero(t, again.code(), "it may be repeated: %s", lazy(again.stderr.String))
	for _, args := range [][]string{{"dead", "ls"}, {"realm", "ls"}, {"doctor"}} {
		p := f.guardedFeed.run("ledgerfeed", args, f.env("console"))
		<-p.ended
		require.NotContains(t, p.stdout.String()+p.stderr.String(), "may not", strings.Join(args, " "))
		if args[0] != "doctor" { // it has things to say about a test
			require.Zero(t, p.code(), "%s: %s", strings.Join(args, " "), lazy(p.stderr.String))
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.listen["console"]+"/api/v1/overview", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(t, f.secret("console_token"))))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `"realms_total"`)
}

// connect connects the company as the simulated QuickBooks of the demo does, with its user.
func (f *securedFeed) connect() {
	f.t.Helper()
	store, err := state.Open(f.t.Context(), state.Options{Config: state.Config{URL: secret.String(f.redisURL("simulator")), CAFile: f.secret("ca.crt")}})
	require.NoError(f.t, err)
	defer store.Close()
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "unused", TokenURL: f.intuit.URL})
	require.NoError(f.t, err)
	keys := []secret.String{secret.String(strings.TrimSpace(read(f.t, f.secret("connection_keys"))))}
	connections, err := connection.New(connection.Options{State: store, Config: connection.Config{Keys: keys}, Refresher: oauth})
	require.NoError(f.t, err)
	access, refresh := f.sim.Connect(guardedRealm)
	now := time.Now()
	require.NoError(f.t, connections.Connect(f.t.Context(), guardedRealm, "books", qbo.Token{
		Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
		RefreshExpires: now.AddDate(0, 0, 100), RefreshHardExpires: now.AddDate(5, 0, 0),
	}))
}
