package connect_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

const (
	realm = "9341452001"
	other = "9341452002"
)

var keys = []secret.String{secret.String("k1:" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))}

// bundle is the handler under a prefix, with a QuickBooks whose owner is asked.
type bundle struct {
	*testing.T
	sim         *qbosim.Sim
	intuit      *httptest.Server
	server      *httptest.Server
	store       *state.Store
	connections *connection.Store
	oauth       *qbo.OAuth
	company     func(context.Context, string, qbo.Token) (string, error)
	logs        *observer.ObservedLogs
	redis       string
}

const prefix = "/console"

func setup(t *testing.T, edit ...func(*connect.Options)) *bundle {
	t.Helper()
	return setupOn(t, devtest.Redis(t), edit...)
}

func setupOn(t *testing.T, redis string, edit ...func(*connect.Options)) *bundle {
	t.Helper()
	b := &bundle{T: t, redis: redis}
	var err error
	b.sim, err = qbosim.New(qbosim.Options{ClientID: "client", ClientSecret: "secret", AskConsent: true, RequirePKCE: true, SeparateConsents: true})
	require.NoError(t, err)
	b.sim.AddRealm(realm)
	b.sim.AddRealm(other)
	b.intuit = httptest.NewServer(b.sim.Handler())
	t.Cleanup(func() { b.intuit.Close(); require.NoError(t, b.sim.Close()) })

	e := echo.New()
	b.server = httptest.NewServer(e)
	t.Cleanup(b.server.Close)
	cfg := qbo.DefaultConfig()
	cfg.BaseURL, cfg.ClientID, cfg.ClientSecret = b.intuit.URL, "client", "secret"
	cfg.TokenURL, cfg.RevokeURL = b.intuit.URL+"/oauth2/v1/tokens/bearer", b.intuit.URL+"/v2/oauth2/tokens/revoke"
	cfg.AuthorizeURL, cfg.RedirectURL = b.intuit.URL+"/connect/oauth2", b.server.URL+prefix+"/connect/callback"
	require.NoError(t, cfg.Validate())
	b.oauth, err = cfg.OAuth()
	require.NoError(t, err)

	b.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}, Timeout: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { b.store.Close() })
	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	b.connections, err = connection.New(connection.Options{
		State: b.store, Refresher: b.oauth, Logger: zap.New(core),
		Config: connection.Config{Keys: keys},
	})
	require.NoError(t, err)
	o := connect.Options{
		Connections: b.connections, OAuth: b.oauth, App: "books", PKCE: true, Logger: zap.New(core),
		Company: connect.CompanyName(cfg),
	}
	b.company = o.Company
	for _, f := range edit {
		f(&o)
	}
	h, err := connect.New(o)
	require.NoError(t, err)
	h.Register(e.Group(prefix))
	return b
}

// person is a browser: it keeps cookies and follows redirects when told.
type person struct {
	b      *bundle
	client *http.Client
}

func (b *bundle) person() *person {
	jar, err := cookiejar.New(nil)
	require.NoError(b, err)
	client := &http.Client{Jar: jar, Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	b.Cleanup(client.CloseIdleConnections)
	return &person{b: b, client: client}
}

// answer is what a person sees.
type answer struct {
	status   int
	location string
	header   http.Header
	body     string
}

func (p *person) do(method, address string, edit ...func(*http.Request)) answer {
	p.b.Helper()
	req, err := http.NewRequestWithContext(p.b.Context(), method, address, nil)
	require.NoError(p.b, err)
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	for _, f := range edit {
		f(req)
	}
	resp, err := p.client.Do(req)
	require.NoError(p.b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.b, err)
	return answer{resp.StatusCode, resp.Header.Get("Location"), resp.Header, string(body)}
}

func (p *person) get(path string, edit ...func(*http.Request)) answer {
	p.b.Helper()
	return p.do(http.MethodGet, p.b.server.URL+prefix+path, edit...)
}

func (p *person) post(path string, edit ...func(*http.Request)) answer {
	p.b.Helper()
	return p.do(http.MethodPost, p.b.server.URL+prefix+path, edit...)
}

func asJSON(r *http.Request) { r.Header.Set("Accept", "application/json") }

// begin opens /connect and returns Intuit's address.
func (p *person) begin(query string) string {
	p.b.Helper()
	a := p.get("/connect" + query)
	require.Equal(p.b, http.StatusSeeOther, a.status, a.body)
	return a.location
}

// consent decides at Intuit and returns where that leads.
func (p *person) consent(intuit, decision, realm string) string {
	p.b.Helper()
	require.Equal(p.b, http.StatusOK, p.do(http.MethodGet, intuit).status)
	a := p.do(http.MethodGet, intuit+"&"+url.Values{"decision": {decision}, "realmId": {realm}}.Encode())
	require.Equal(p.b, http.StatusFound, a.status, a.body)
	return a.location
}

// connect goes all the way.
func (p *person) connect(realm string) answer {
	p.b.Helper()
	return p.do(http.MethodGet, p.consent(p.begin(""), "allow", realm))
}

// with changes the query of an address; "" takes a parameter away.
func with(t *testing.T, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set(name, value)
	if value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}
