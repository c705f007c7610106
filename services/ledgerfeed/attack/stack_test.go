package attack_test

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

const (
	company = "9341453000000077" // connected under the app production
	victim  = "9341453000000078" // another one

	productionToken = secret.String("production-verifier-5c1a")
	sandboxToken    = secret.String("sandbox-verifier-77ce")
	operatorToken   = "operator-token-0a1b2c3d4e5f"
	viewerToken     = "viewer-token-9f8e7d6c5b4a"

	patience = time.Minute
	// intuitsPatience is how long Intuit waits for an answer.
	intuitsPatience = 3 * time.Second

	attacker = "127.0.0.9"
	intuits  = "127.0.0.2"
)

// stack is the services in processes of their own, a QuickBooks, a broker and a Redis.
type stack struct {
	*testing.T
	sim         *qbosim.Sim
	intuit      *httptest.Server
	nats        string
	redis       string
	store       *state.Store
	connections *connection.Store
	sink        string // the file of changes
	listen      map[string]string
	admin       map[string]string
	running     map[string]*process
}

// start starts what every attack needs; the others start more.
func start(t *testing.T) *stack {
	t.Helper()
	s := &stack{T: t, listen: map[string]string{}, admin: map[string]string{}, running: map[string]*process{}}
	s.nats = devtest.StartNATS(t, devserver.NATSOptions{}).URL()
	s.redis = devtest.RealRedis(t)
	s.sink = filepath.Join(t.TempDir(), "changes.jsonl")
	s.listen["ingress"] = s.free()
	s.startQuickBooks()
	s.connect()
	s.run("ingress", "ingress", nil, nil)
	s.run("processor", "processor", nil, map[string]string{"PROCESSOR_SINKS": "jsonl:" + s.sink})
	s.run("reconciler", "reconciler", nil, map[string]string{
		"RECONCILER_START_JITTER": "0s", "RECONCILER_GRACE": "0s", "RECONCILER_INTERVAL": "1h", "RECONCILER_MIN_INTERVAL": "1h",
	})
	s.run("console", "ledgerfeed", []string{"console"}, map[string]string{
		"CONSOLE_TOKEN": operatorToken, "CONSOLE_VIEWER_TOKEN": viewerToken, "CONSOLE_APP": "production",
		"QBO_REDIRECT_URL": "http://127.0.0.1/connect/callback",
	})
	for _, name := range []string{"ingress", "processor", "reconciler"} {
		s.ready(name)
	}
	s.serves("console")
	return s
}

func (s *stack) free() string {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	defer l.Close()
	return l.Addr().String()
}

func (s *stack) startQuickBooks() {
	var err error
	s.sim, err = qbosim.New(qbosim.Options{
		Seed: 5, ClientID: "app", ClientSecret: "hush-client-secret", VerifierToken: productionToken, Aggregate: 50 * time.Millisecond, RetryScale: 0.01,
		WebhookURL: "http://" + s.listen["ingress"] + "/webhooks/production", AskConsent: true,
	})
	require.NoError(s, err)
	for _, realm := range []string{company, victim} {
		s.sim.AddRealm(realm)
		_, err := s.sim.Populate(realm)
		require.NoError(s, err)
	}
	s.intuit = httptest.NewServer(s.sim.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() { _ = s.sim.Run(ctx) })
	s.Cleanup(func() {
		cancel()
		sending.Wait()
		s.intuit.Close()
		require.NoError(s, s.sim.Close())
	})
}

const sealKey = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// connect connects both companies, as consents do.
func (s *stack) connect() {
	s.Helper()
	_, err := base64.StdEncoding.DecodeString(sealKey[3:])
	require.NoError(s, err)
	s.store, err = state.Open(s.Context(), state.Options{Config: state.Config{URL: secret.String(s.redis)}})
	require.NoError(s, err)
	s.Cleanup(func() { _ = s.store.Close() })
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "unused", TokenURL: s.intuit.URL})
	require.NoError(s, err)
	s.connections, err = connection.New(connection.Options{State: s.store, Config: connection.Config{Keys: []secret.String{sealKey}}, Refresher: oauth})
	require.NoError(s, err)
	now := time.Now()
	for _, realm := range []string{company, victim} {
		access, refresh := s.sim.Connect(realm)
		require.NoError(s, s.connections.Connect(s.Context(), realm, "production", qbo.Token{
			Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
			RefreshExpires: now.AddDate(0, 0, 100), RefreshHardExpires: now.AddDate(5, 0, 0),
		}))
	}
}

// run starts a program under a name, with settings of its own.
func (s *stack) run(name, program string, args []string, settings map[string]string) *process {
	s.Helper()
	if s.listen[name] == "" {
		s.listen[name] = s.free()
	}
	s.admin[name] = s.free()
	env := map[string]string{
		"ADMIN_LISTEN": s.admin[name], "LOG_LEVEL": "info", "LOG_FORMAT": "json", "NATS_URL": s.nats, "NATS_PROFILE": "dev",
		"NATS_EVENTS_MAX_BYTES": "268435456", "NATS_RETRY_MAX_BYTES": "67108864", "NATS_DEAD_MAX_BYTES": "268435456",
		"NATS_CHANGES_MAX_BYTES": "67108864", "REDIS_URL": s.redis, "CONNECTION_KEYS": sealKey,
		"QBO_BASE_URL": s.intuit.URL, "QBO_TOKEN_URL": s.intuit.URL + "/oauth2/v1/tokens/bearer",
		"QBO_AUTHORIZE_URL": "", "QBO_CLIENT_ID": "app", "QBO_CLIENT_SECRET": "hush-client-secret",
		"INGRESS_LISTEN": s.listen[name], "INGRESS_APPS": "production=" + productionToken.Reveal() + ";sandbox=" + sandboxToken.Reveal(),
		"CONSOLE_LISTEN": s.listen[name],
	}
	maps.Copy(env, settings)
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = &p.output, &p.output, s.TempDir()
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.TempDir()}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if env[key] != "" {
			p.cmd.Env = append(p.cmd.Env, "LEDGERFEED_"+key+"="+env[key])
		}
	}
	require.NoError(s, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	s.running[name] = p
	s.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if s.Failed() {
			text := p.output.String()
			s.Logf("%s\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	output buffer
	ended  chan struct{}
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// memory is a line of /proc/PID/status, in bytes: VmRSS is what it takes, VmHWM the most
// it has taken.
func (p *process) memory(t *testing.T, name string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			require.NoError(t, err)
			return n << 10
		}
	}
	t.Fatal("/proc has no " + name)
	return 0
}

// buffer is written by a process and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// ready waits for a service's /readyz.
func (s *stack) ready(name string) {
	s.Helper()
	require.Eventually(s, func() bool {
		return s.running[name].over() || s.status("http://"+s.admin[name]+"/readyz") == http.StatusOK
	}, patience, 20*time.Millisecond, name)
	require.False(s, s.running[name].over(), "%s has ended: %s", name, &s.running[name].output)
}

// serves waits until a server answers at all.
func (s *stack) serves(name string) {
	s.Helper()
	require.Eventually(s, func() bool { return s.running[name].over() || s.status("http://"+s.listen[name]+"/livez") != 0 }, patience, 20*time.Millisecond, name)
}

// status of a GET; 0 is no answer.
func (s *stack) status(url string) int {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: stay}
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, url, nil)
	require.NoError(s, err)
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// from dials from an address of this machine.
func from(addr string) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: 5 * time.Second}
	return d.DialContext
}

// client is one of its own at an address.
func (s *stack) client(addr string) *http.Client {
	transport := &http.Transport{DialContext: from(addr)}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: stay}
}

// answer is what came of a request.
type answer struct {
	status int
	body   string
	header http.Header
}

// send sends a request; header are pairs, Host among them.
func (s *stack) send(client *http.Client, method, url string, body io.Reader, header ...string) answer {
	s.Helper()
	a, err := try(s.Context(), client, method, url, body, header...)
	require.NoError(s, err)
	return a
}

func try(ctx context.Context, client *http.Client, method, url string, body io.Reader, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text), resp.Header}, err
}

// event is one of a body.
func event(realm, entity, id, operation string, at time.Time) map[string]any {
	return map[string]any{
		"specversion": "1.0", "id": fmt.Sprintf("%s-%s-%s-%d", entity, id, operation, at.UnixNano()), "source": "intuit.attack",
		"type": "qbo." + strings.ToLower(entity) + "." + operation + ".v1", "datacontenttype": "application/json",
		"time": at.UTC().Format(time.RFC3339Nano), "intuitentityid": id, "intuitaccountid": realm, "data": map[string]any{},
	}
}

func bodyOf(events ...map[string]any) []byte {
	body, err := json.Marshal(events)
	if err != nil {
		panic(err) // strings always encode
	}
	return body
}

// webhook posts a body to an app of the ingress, signed with a token.
func (s *stack) webhook(client *http.Client, app string, token secret.String, body []byte) (status int, took time.Duration) {
	s.Helper()
	began := time.Now()
	a := s.send(client, http.MethodPost, "http://"+s.listen["ingress"]+"/webhooks/"+app, bytes.NewReader(body), webhook.SignatureHeader, webhook.Sign(body, token))
	return a.status, time.Since(began)
}

// metric sums a metric of a service over its series whose labels contain part.
func (s *stack) metric(service, name, part string) (sum float64) {
	s.Helper()
	client := s.client("127.0.0.1")
	a := s.send(client, http.MethodGet, "http://"+s.admin[service]+"/metrics", nil)
	for line := range strings.Lines(a.body) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && (series == name || strings.HasPrefix(series, name+"{")) && strings.Contains(series, part) {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(s, err)
			sum += n
		}
	}
	return sum
}

// change is a line of the sink.
type change struct {
	Realm     string `json:"realm"`
	Entity    string `json:"entity"`
	ID        string `json:"id"`
	Operation string `json:"operation"`
	Deleted   bool   `json:"deleted"`
}

// delivered are the changes in the sink.
func (s *stack) delivered() (all []change, text string) {
	s.Helper()
	raw, err := os.ReadFile(s.sink)
	if os.IsNotExist(err) {
		return nil, ""
	}
	require.NoError(s, err)
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var c change
		require.NoError(s, json.Unmarshal(line, &c))
		all = append(all, c)
	}
	return all, string(raw)
}

// loaded waits until the first load of the companies is over: nothing more is delivered
// and nobody calls.
func (s *stack) loaded() {
	s.Helper()
	before, since := 0, time.Now()
	require.Eventually(s, func() bool {
		if now := s.sim.Stats().Calls; now != before {
			before, since = now, time.Now()
		}
		all, _ := s.delivered()
		return len(all) > 0 && time.Since(since) > 2*time.Second
	}, patience, 50*time.Millisecond)
}
