package console_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	os.Exit(devtest.Main(m))
}

const (
	realm         = "9341452001"
	operatorToken = "operator-token-1234"
	viewerToken   = "viewer-token-123456"
)

// bundle is a console over an empty feed with one company.
type bundle struct {
	*testing.T
	*feed
	console  *console.Server
	server   *httptest.Server
	client   *http.Client
	registry *prometheus.Registry
	logs     *observer.ObservedLogs
	clock    *atomic.Pointer[time.Time] // of the console; nil: the time of day
}

// feed is what consoles stand on.
type feed struct {
	store       *state.Store
	broker      *stream.Conn
	connections *connection.Store
	qbo         *qbo.Client
	oauth       *qbo.OAuth
}

func openFeed(ctx context.Context, redis, nats string) (f *feed, err error) {
	f = &feed{}
	if f.store, err = state.Open(ctx, state.Options{Config: state.Config{URL: secret.String(redis)}}); err != nil {
		return nil, err
	}
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = nats, stream.Dev
	if f.broker, err = stream.Connect(ctx, stream.Options{Config: cfg}); err != nil {
		return nil, err
	}
	if err := f.broker.EnsureTopology(ctx); err != nil {
		return nil, err
	}
	api := qbo.DefaultConfig()
	api.ClientID, api.ClientSecret, api.RedirectURL = "client", "hush", "https://console.example.com/connect/callback"
	if f.oauth, err = api.OAuth(); err != nil {
		return nil, err
	}
	f.connections, err = connection.New(connection.Options{
		State: f.store, Refresher: f.oauth,
		Config: connection.Config{Keys: []secret.String{"k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}},
	})
	if err != nil {
		return nil, err
	}
	if err := f.connections.Connect(ctx, realm, "books", qbo.Token{Access: "a", Refresh: "r"}); err != nil {
		return nil, err
	}
	if _, err := f.store.SetSinks(ctx, []string{"crm"}); err != nil {
		return nil, err
	}
	f.qbo, err = api.Client(f.connections, nil, nil)
	return f, err
}

// options are those of a console over the feed.
func (f *feed) options(c console.ConsoleConfig) console.Options {
	return console.Options{Config: c, State: f.store, Stream: f.broker, Connections: f.connections, QBO: f.qbo, Budget: f.store.Budget(0)}
}

func setup(t *testing.T, edit func(*console.ConsoleConfig)) *bundle {
	t.Helper()
	return setupOn(t, devtest.Redis(t), edit)
}

func setupOn(t *testing.T, redis string, edit func(*console.ConsoleConfig)) *bundle {
	t.Helper()
	f, err := openFeed(t.Context(), redis, devtest.NATS(t))
	require.NoError(t, err)
	t.Cleanup(func() { f.store.Close() })
	t.Cleanup(f.broker.Close)
	return serve(t, f, edit)
}

// serve starts a console over a feed, which others may serve, too.
func serve(t *testing.T, f *feed, edit func(*console.ConsoleConfig)) *bundle {
	t.Helper()
	b := &bundle{T: t, feed: f, registry: prometheus.NewRegistry(), clock: &atomic.Pointer[time.Time]{}}
	c := console.DefaultConsoleConfig()
	c.Listen = "127.0.0.1:0"
	edit(&c)
	o := f.options(c)
	var err error
	o.Connect, err = connect.New(connect.Options{Connections: f.connections, OAuth: f.oauth, App: "production"})
	require.NoError(t, err)
	core, logs := observer.New(zap.DebugLevel)
	b.logs = logs
	o.Logger = zaptest.NewLogger(t, zaptest.WrapOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) })))
	o.Registerer = b.registry
	o.Now = func() time.Time {
		if at := b.clock.Load(); at != nil {
			return *at
		}
		return time.Now()
	}
	s, err := console.New(o)
	require.NoError(t, err)
	b.console, b.server = s, httptest.NewServer(s.Handler())
	t.Cleanup(b.server.Close)
	b.client = &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

func withTokens(c *console.ConsoleConfig) { c.Token, c.ViewerToken = operatorToken, viewerToken }

// ask sends a request; header are pairs.
func (b *bundle) ask(method, path string, form url.Values, header ...string) (*http.Response, string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.server.URL+path, strings.NewReader(form.Encode()))
	require.NoError(b, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	require.NoError(b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	return resp, string(body)
}

var pages = []string{
	"/", "/?range=day", "/realms", "/realms?q=934&state=live", "/realms/" + realm, "/gaps", "/gaps?verdict=lost", "/dead", "/dead?realm=1",
	"/sinks", "/budget", "/audit", "/audit?realm=" + realm, "/actions", "/settings", "/connecting", "/test",
}

func TestConsole_EveryPageIsThereAndHasNoInlineScript(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*console.ConsoleConfig) {})
	for _, page := range pages {
		resp, body := b.ask(http.MethodGet, page, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", page, body)
		require.Contains(t, body, "</html>", page)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "script-src 'self'")
		require.NotContains(t, body, "style=", page)
		require.NotRegexp(t, `<script>|\son[a-z]+=`, body, page)
	}
	resp, _ := b.ask(http.MethodGet, "/realms/1", nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	resp, body := b.ask(http.MethodGet, "/nowhere", nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Contains(t, body, "No such page")
}

func TestConsole_WithoutLoginOnlyThisMachineIsServed(t *testing.T) {
	t.Parallel()
	b := setup(t, func(*console.ConsoleConfig) {})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+"/", nil)
	require.NoError(t, err)
	req.Host = "rebound.example.com"
	resp, err := b.client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusMisdirectedRequest, resp.StatusCode)

	c := console.DefaultConsoleConfig()
	c.Listen = "0.0.0.0:8090"
	require.ErrorContains(t, c.Validate(), "console.token")
	c.Token = operatorToken
	require.ErrorContains(t, c.Validate(), "console.public_url")
	c.PublicURL = "https://console.example.com"
	require.NoError(t, c.Validate())
}

func TestConsole_Login(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	for _, page := range pages {
		resp, _ := b.ask(http.MethodGet, page, nil)
		require.Equal(t, http.StatusSeeOther, resp.StatusCode, page)
		require.Contains(t, resp.Header.Get("Location"), "/login?next=", page)
	}
	resp, _ := b.ask(http.MethodGet, "/api/v1/overview", nil)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	resp, body := b.ask(http.MethodPost, "/login", url.Values{"token": {"wrong"}})
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Contains(t, body, "That is no token")

	resp, _ = b.ask(http.MethodPost, "/login", url.Values{"token": {viewerToken}, "next": {"//evil.example"}})
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(t, "/", resp.Header.Get("Location"), "never to another site")
	cookie := resp.Cookies()[0]
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.True(t, cookie.HttpOnly)
	resp, body = b.ask(http.MethodGet, "/sinks", nil, "Cookie", cookie.Name+"="+cookie.Value)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NotContains(t, body, "/sinks/crm/pause", "a viewer is offered no action")
	resp, _ = b.ask(http.MethodPost, "/sinks/crm/pause", url.Values{}, "Cookie", cookie.Name+"="+cookie.Value)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	resp, body = b.ask(http.MethodGet, "/realms?q=1&state=", nil, "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, body, `url=/realms?q=1&amp;state=`, "asked again, with the session")
	forged := cookie.Value[:3] + "x" + cookie.Value[4:]
	resp, _ = b.ask(http.MethodGet, "/sinks", nil, "Cookie", cookie.Name+"="+forged)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	paused, err := b.store.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Empty(t, paused)
}

func TestConsole_AnotherSiteCannotAct(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		resp, _ := b.ask(http.MethodPost, "/sinks/crm/pause", url.Values{}, append(header, "Authorization", "Bearer "+operatorToken)...)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	}
}

func TestConsole_ActionsTakeEffectAndAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	auth := []string{"Authorization", "Bearer " + operatorToken}
	resp, body := b.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, auth...)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	paused, err := b.store.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, paused)
	resp, _ = b.ask(http.MethodPost, "/api/v1/sinks/crm/resume", url.Values{}, auth...)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	resp, _ = b.ask(http.MethodPost, "/api/v1/sinks/nope/pause", url.Values{}, auth...)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)

	for range 2 {
		require.NoError(t, b.broker.PublishDead(t.Context(), stream.DeadLetter{
			ID: time.Now().String(), Reason: stream.ReasonUnreadable, RealmID: realm, Detail: "no <event>", Body: []byte(time.Now().String()),
		}))
	}
	resp, body = b.ask(http.MethodGet, "/dead", nil, auth...)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, body, "no &lt;event&gt;")
	resp, body = b.ask(http.MethodGet, "/dead/1", nil, auth...)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	resp, body = b.ask(http.MethodPost, "/api/v1/dead/requeue", url.Values{"seq": {"1"}}, auth...)
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode, body)
	resp, _ = b.ask(http.MethodPost, "/api/v1/dead/purge", url.Values{}, auth...)
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "nothing was named")
	resp, body = b.ask(http.MethodPost, "/dead/purge", url.Values{"realm": {realm}}, auth...)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode, body)
	counts, err := b.broker.DeadCounts(t.Context())
	require.NoError(t, err)
	require.Zero(t, counts[stream.ReasonUnreadable])

	actions, err := action.Newest(t.Context(), b.broker, nil, 0, 100)
	require.NoError(t, err)
	require.Len(t, actions, 6)
	require.Equal(t, "purge", actions[0].What)
	require.Equal(t, "letters of realm "+realm, actions[0].On)
	for _, a := range actions {
		require.Equal(t, "operator (token)", a.Who)
		require.NotEmpty(t, a.Outcome)
	}
}

func TestConsole_HeldDeletionsAreDecidedByOperators(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	auth := []string{"Authorization", "Bearer " + operatorToken}
	for _, name := range []string{"Invoice", "Vendor"} {
		h, err := b.store.HeldDeletion(t.Context(), realm, name)
		require.NoError(t, err)
		h.State, h.Count, h.Of, h.Sample, h.Since, h.At = state.DeletionHeld, 30, 100, []string{"<7>"}, time.Now(), time.Now()
		require.NoError(t, b.store.HoldDeletion(t.Context(), h))
	}
	_, body := b.ask(http.MethodGet, "/", nil, auth...)
	require.Contains(t, body, "60 deletions wait")
	_, body = b.ask(http.MethodGet, "/deletions", nil, "Authorization", "Bearer "+viewerToken)
	require.Contains(t, body, "&lt;7&gt;")
	require.NotContains(t, body, "/approve", "a viewer is offered no action")
	for _, verb := range []string{"approve", "reject"} {
		resp, _ := b.ask(http.MethodPost, "/realms/"+realm+"/deletions/Invoice/"+verb, url.Values{}, "Authorization", "Bearer "+viewerToken)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		resp, _ = b.ask(http.MethodPost, "/realms/"+realm+"/deletions/Invoice/"+verb, url.Values{}, append([]string{"Sec-Fetch-Site", "cross-site"}, auth...)...)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	}
	resp, body := b.ask(http.MethodPost, "/realms/"+realm+"/deletions/Invoice/approve", url.Values{}, auth...)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode, body)
	resp, body = b.ask(http.MethodPost, "/api/v1/realms/"+realm+"/deletions/Vendor/reject", url.Values{}, auth...)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	resp, _ = b.ask(http.MethodPost, "/api/v1/realms/"+realm+"/deletions/Vendor/approve", url.Values{}, auth...)
	require.Equal(t, http.StatusConflict, resp.StatusCode, "it is decided")

	all, err := b.store.HeldDeletions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []state.DeletionState{state.DeletionApproved, state.DeletionRejected}, []state.DeletionState{all[0].State, all[1].State})
	require.Equal(t, "operator (token): console", all[0].By)
	due, err := b.store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.False(t, due.After(time.Now()), "an approved one is due now")
	actions, err := action.Newest(t.Context(), b.broker, nil, 0, 100)
	require.NoError(t, err)
	var noted []string
	for _, a := range actions {
		noted = append(noted, a.What+" "+a.On)
	}
	require.Contains(t, noted, "reject realm "+realm+" Vendor")
	require.Contains(t, noted, "approve realm "+realm+" Invoice")
}

// The document and the server have the same routes.
func TestOpenAPI_IsWhatIsServed(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	_, body := b.ask(http.MethodGet, "/api/v1/openapi.json", nil, "Authorization", "Bearer "+viewerToken)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &doc))
	documented := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			documented[strings.ToUpper(method)+" /api/v1"+strings.NewReplacer("{", ":", "}", "").Replace(path)] = true
		}
	}
	served := map[string]bool{}
	for _, r := range b.server.Config.Handler.(*echo.Echo).Routes() {
		if strings.HasPrefix(r.Path, "/api/v1/") && r.Path != "/api/v1/openapi.json" {
			served[r.Method+" "+r.Path] = true
		}
	}
	require.Equal(t, served, documented)
	require.NotEmpty(t, served)
}
