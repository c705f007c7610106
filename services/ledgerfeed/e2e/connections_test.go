package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// office is a QuickBooks and a Redis, and what the commands are told of them.
type office struct {
	t      *testing.T
	sim    *qbosim.Sim
	intuit *httptest.Server
	env    []string
	dir    string
	said   strings.Builder // all output, to look for secrets in
}

func newOffice(t *testing.T, rotate time.Duration, realms ...string) *office {
	t.Helper()
	sim, err := qbosim.New(qbosim.Options{ClientID: "app", ClientSecret: "app-secret", RotateEvery: rotate})
	require.NoError(t, err)
	for _, id := range realms {
		sim.AddRealm(id)
	}
	o := &office{t: t, sim: sim, intuit: httptest.NewServer(sim.Handler()), dir: t.TempDir()}
	t.Cleanup(func() { o.intuit.Close(); require.NoError(t, sim.Close()) })
	o.env = []string{
		"LEDGERFEED_REDIS_URL=" + devtest.RealRedis(t), "LEDGERFEED_CONNECTION_KEYS=" + ringKey("k1"),
		"LEDGERFEED_QBO_BASE_URL=" + o.intuit.URL, "LEDGERFEED_QBO_TOKEN_URL=" + o.intuit.URL + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_REVOKE_URL=" + o.intuit.URL + "/v2/oauth2/tokens/revoke", "LEDGERFEED_QBO_AUTHORIZE_URL=" + o.intuit.URL + "/connect/oauth2",
		"LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=app-secret", "LEDGERFEED_QBO_PKCE=true",
	}
	return o
}

// dropLeases lets the leases of a dead process run out.
func (o *office) dropLeases() {
	o.t.Helper()
	url := strings.TrimPrefix(o.env[0], "LEDGERFEED_REDIS_URL=")
	st, err := state.Open(o.t.Context(), state.Options{Config: state.Config{URL: secret.String(url)}})
	require.NoError(o.t, err)
	defer st.Close()
	leases, err := st.Redis().Keys(o.t.Context(), "lf:tmp:1:lease:*").Result()
	require.NoError(o.t, err)
	if len(leases) > 0 {
		require.NoError(o.t, st.Redis().Del(o.t.Context(), leases...).Err())
	}
}

// ringKey is a key for the ring.
func ringKey(id string) string {
	return id + ":" + base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%-32s", "ring "+id)))
}

// run runs a command and returns its output and exit code.
func (o *office) run(args ...string) (stdout, stderr string, code int) {
	o.t.Helper()
	cmd := exec.Command("ledgerfeed", args...)
	cmd.Env, cmd.Dir = append(cmd.Environ(), o.env...), o.dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(o.t, err, &exit)
	}
	o.said.WriteString(out.String() + errs.String())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (o *office) ok(args ...string) string {
	o.t.Helper()
	out, errs, code := o.run(args...)
	require.Zero(o.t, code, "%v\n%s%s", args, out, errs)
	return out
}

type realmLine struct {
	Realm, App, State, Why, Connection string
	Token                              struct {
		Key         string
		HardExpires time.Time `json:"hard_expires"`
	}
}

func (o *office) show(id string) (r realmLine) {
	o.t.Helper()
	require.NoError(o.t, json.Unmarshal([]byte(o.ok("realm", "show", id, "--json")), &r))
	return r
}

// A person connects a company by the pages; then it is looked at, parked, its key
// replaced, its token revoked, connected again, and disconnected.
func TestConnections_TheLifeOfACompany(t *testing.T) {
	t.Parallel()
	const id = "9341453000000001"
	o := newOffice(t, 0, id)
	address := freeAddress(t)
	o.env = append(o.env, "LEDGERFEED_QBO_REDIRECT_URL=http://"+address+"/connect/callback")
	server := exec.Command("ledgerfeed", "connect", "--listen", address, "--app", "books")
	server.Env = append(server.Environ(), o.env...)
	var log buffer
	server.Stdout, server.Stderr = &log, &log
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "/connect") }, time.Minute, 10*time.Millisecond)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	visit := func(path string) (int, string) {
		resp, err := client.Get("http://" + address + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	status, body := visit("/")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "Connect a company")
	status, body = visit("/connect") // to Intuit and back
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "Simulated company "+id)

	list := o.ok("realm", "ls")
	require.Contains(t, list, id)
	require.Contains(t, list, "catching up")
	r := o.show(id)
	require.Equal(t, "books", r.App)
	require.Equal(t, "catching_up", r.State)
	require.Equal(t, "k1", r.Token.Key)
	require.WithinDuration(t, time.Now().AddDate(5, 0, 0), r.Token.HardExpires, 48*time.Hour)
	require.Contains(t, o.ok("token", "status"), "live")
	require.Contains(t, o.ok("token", "status", id), "without a refresh until")

	require.Contains(t, o.ok("realm", "park", id, "--dry-run"), "would park")
	require.Equal(t, "catching_up", o.show(id).State)
	o.ok("realm", "park", id, "--yes", "--reason", "unpaid")
	require.Equal(t, "unpaid", o.show(id).Why)
	o.ok("token", "refresh", id, "--yes")
	require.Contains(t, o.ok("realm", "ls", "--state", "parked"), id)
	require.JSONEq(t, `{"realm":"`+id+`","outcome":"live"}`, o.ok("realm", "unpark", id, "--yes", "--json"))
	require.Contains(t, o.ok("realm", "ls", "--count"), "1 total")

	// A new key in front, then the old one goes.
	before := o.env
	o.env = append(o.env, "LEDGERFEED_CONNECTION_KEYS="+ringKey("k2")+","+ringKey("k1"))
	require.Contains(t, o.ok("token", "rotate", "--dry-run"), "k1 encrypts tokens of 1 companies")
	require.Contains(t, o.ok("token", "rotate", "--yes"), "k1 encrypts nothing any more")
	require.Equal(t, "k2", o.show(id).Token.Key)
	o.env = append(before, "LEDGERFEED_CONNECTION_KEYS="+ringKey("k2"))
	o.ok("token", "refresh", id, "--yes")

	_, stderr, code := o.run("realm", "park", "9341453000000009", "--yes")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "never connected")

	o.ok("token", "revoke", id, "--yes")
	require.Equal(t, "parked", o.show(id).State)
	require.Equal(t, "reauth_required", o.show(id).Connection)
	_, stderr, code = o.run("realm", "unpark", id, "--yes")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "connected anew")

	o.ok("realm", "disconnect", id, "--yes")
	require.Equal(t, "disconnected", o.show(id).State)
	status, body = visit("/connect?realm=" + id)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "Connected again")

	require.Contains(t, o.ok("budget"), "no bound")
	var budget struct{ Live, Total int }
	require.NoError(t, json.Unmarshal([]byte(o.ok("budget", "--json")), &budget))

	require.NoError(t, server.Process.Signal(syscall.SIGTERM))
	require.NoError(t, server.Wait())
	o.said.WriteString(log.String())
	require.NotContains(t, o.said.String(), "app-secret")
	require.NotContains(t, o.said.String(), ringKey("k2")[3:])
}

// Many companies come from a file; the import is killed in the middle and run again.
func TestConnections_ImportOfManyIsKilledAndGoesOn(t *testing.T) {
	t.Parallel()
	var realms []string
	for n := range 200 {
		realms = append(realms, fmt.Sprint(9341453000000000+n))
	}
	// As Intuit does: the value of a token lasts a day, so that one that was refreshed
	// and not stored can be refreshed again.
	o := newOffice(t, 24*time.Hour, realms...)
	var file strings.Builder
	file.WriteString("realm,refresh_token,app\nseven,x,\n9341459999999999,made-up-token,\n")
	for _, id := range realms {
		_, refresh := o.sim.Connect(id)
		fmt.Fprintf(&file, "%s,%s,books\n", id, refresh.Reveal())
	}
	path := filepath.Join(o.dir, "companies.csv")
	write(t, path, file.String())

	first := exec.Command("ledgerfeed", "token", "import", "--file", path, "--parallel", "2", "--yes")
	first.Env, first.Dir = append(first.Environ(), o.env...), o.dir
	require.NoError(t, first.Start())
	require.Eventually(t, func() bool {
		done, err := os.ReadFile(path + ".done")
		return err == nil && strings.Count(string(done), "934145") >= 20
	}, time.Minute, time.Millisecond)
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()

	o.dropLeases()
	stdout, stderr, code := o.run("token", "import", "--file", path, "-y")
	require.Equal(t, 1, code, "two lines cannot be imported")
	require.Contains(t, stderr, "line 2: realm seven: the company id")
	require.Contains(t, stderr, "line 3: realm 9341459999999999: intuit does not take the token")
	require.Contains(t, stderr, "2 of 202 companies are not imported")
	var imported, earlier, newer int
	_, err := fmt.Sscanf(stdout, "imported %d of 202 companies; %d were imported before, %d are connected with a newer token", &imported, &earlier, &newer)
	require.NoError(t, err, stdout)
	require.Equal(t, 200, imported+earlier)
	require.GreaterOrEqual(t, earlier, 20)
	require.Zero(t, newer)

	var counts map[string]int
	require.NoError(t, json.Unmarshal([]byte(o.ok("realm", "ls", "--count", "--json")), &counts))
	require.Equal(t, 200, counts["catching_up"])
	require.Equal(t, 200, strings.Count(o.ok("realm", "ls", "--limit", "0"), "books"))
	require.Zero(t, o.sim.Stats().RefreshReplays)
	require.NotContains(t, o.said.String(), "made-up-token")
}

// A company is connected by dev's console only if QuickBooks shows it to the new token, as
// by the services.
func TestDev_VerifiesACompanyThatIsConnected(t *testing.T) {
	t.Parallel()
	const id = "9341453000000777"
	address := freeAddress(t)
	dev := start(t, "dev", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--console-listen", address, "--realms", "1")
	sim := dev.field("quickbooks")
	control := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, sim+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Less(t, resp.StatusCode, 300, path)
	}
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	get := func(address string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", "application/json")
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, body
	}
	connect := func() (int, string) {
		t.Helper()
		var begun struct {
			URL string `json:"authorize_url"`
		}
		_, body := get("http://" + address + "/connect?realm=" + id)
		require.NoError(t, json.Unmarshal(body, &begun))
		status, body := get(begun.URL + "&decision=allow&realmId=" + id)
		return status, string(body)
	}
	control(http.MethodPost, "/sim/realms", `{"id":"`+id+`"}`)
	control(http.MethodPut, "/sim/faults", `{"refuse":[{"realm":"`+id+`","status":403,"code":"3100","message":"ApplicationAuthorizationFailed"}]}`)
	status, body := connect()
	require.Equal(t, http.StatusBadRequest, status, body)
	require.Contains(t, body, "wrong_company")

	control(http.MethodPut, "/sim/faults", `{}`)
	status, body = connect()
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, id)
}
