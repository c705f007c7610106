package connect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
)

// refusing is the API with another answer for CompanyInfo.
type refusing struct {
	url    string
	asked  atomic.Int64
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request)]
}

// startRefusing puts it before the simulator; the OAuth endpoints are the simulator's.
func startRefusing(t *testing.T) *refusing {
	t.Helper()
	r := &refusing{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		w.Header().Set("intuit_tid", "1-tid")
		(*r.answer.Load())(w, req)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *refusing) with(status int, body string) {
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
	r.answer.Store(&answer)
}

// Without a proof that the token is for the company nothing is stored and the consent is
// given back; a connection that works is never touched.
func TestCallback_FailsClosed(t *testing.T) {
	t.Parallel()
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drops := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		answer func(http.ResponseWriter, *http.Request)
		want   int
		text   []string
	}{
		// minimul/qbo_api#138
		{"403", 403, `{"Fault":{"Error":[{"Message":"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403","code":"3100"}],"type":"AUTHORIZATION"}}`, nil, 400, []string{"another company", "sandbox-quickbooks.api.intuit.com"}},
		// intuit/oauth-jsclient#135
		{"401", 401, `{"fault":{"error":[{"message":"message=AuthenticationFailed","detail":"SRV-110-Authentication Failure","code":"100"}],"type":"AUTHENTICATION"}}`, nil, 400, []string{"another company", "development keys"}},
		{"500", 500, `{"Fault":{"Error":[{"Message":"message=InternalServerError; errorCode=003100; statusCode=500","code":"3100"}],"type":"SERVICE"}}`, nil, 502, []string{"did not answer"}},
		{"404", 404, "<html>Not Found</html>", nil, 502, []string{"did not answer"}},
		{"page in place of a result", 200, "<html>Sign in</html>", nil, 502, []string{"did not answer"}},
		{"subscription ended, status 200", 200, `{"Fault":{"Error":[{"Message":"Invalid Company Status","code":"6190"}],"type":"ValidationFault"}}`, nil, 400, []string{"subscription of company " + realm + " has ended"}},
		{"503", 503, "<html>busy</html>", nil, 502, []string{"did not answer"}},
		{"timeout", 0, "", hangs, 502, []string{"did not answer"}},
		{"dropped", 0, "", drops, 502, []string{"did not answer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRefusing(t)
			cfg := qbo.DefaultConfig()
			cfg.BaseURL, cfg.ClientID, cfg.ClientSecret, cfg.Timeout = r.url, "client", "secret", 200*time.Millisecond
			company, given := connect.CompanyName(cfg), qbo.Token{}
			b := setup(t, func(o *connect.Options) {
				o.Company = func(ctx context.Context, realm string, token qbo.Token) (string, error) {
					given = token
					return company(ctx, realm, token)
				}
			})
			if r.with(tt.status, tt.body); tt.answer != nil {
				r.answer.Store(&tt.answer)
			}
			p := b.person()

			// A company that is not connected: the consent is given back.
			a := p.connect(realm)
			require.Equal(t, tt.want, a.status, a.body)
			for _, text := range append(tt.text, "stays as it is, and the new consent was given back") {
				require.Contains(t, a.body, text)
			}
			stranger := a.body
			_, err := b.connections.Get(t.Context(), realm)
			require.ErrorIs(t, err, connection.ErrNotConnected)
			_, err = b.oauth.Refresh(t.Context(), given.Refresh)
			require.ErrorIs(t, err, qbo.ErrInvalidGrant, "it was given back")
			line := b.logs.FilterMessage("company not connected").FilterLevelExact(zapcore.WarnLevel).All()
			require.NotEmpty(t, line)
			fields, err := json.Marshal(line[len(line)-1].ContextMap())
			require.NoError(t, err)
			require.Contains(t, string(fields), realm)
			if tt.answer == nil {
				require.Contains(t, string(fields), "1-tid")
				require.True(t, tt.name == "page in place of a result" || strings.Contains(string(fields), fmt.Sprintf("status %d", tt.status)), string(fields))
			}

			// A company that is: its connection stays and works, the new consent is given back.
			before := b.live()
			a = p.connect(realm)
			require.Equal(t, tt.want, a.status, a.body)
			require.Equal(t, stranger, a.body, "nobody learns which companies are connected")
			after, err := b.connections.Get(t.Context(), realm)
			require.NoError(t, err)
			require.Equal(t, before, after)
			_, err = b.oauth.Refresh(t.Context(), given.Refresh)
			require.ErrorIs(t, err, qbo.ErrInvalidGrant, "it was given back")
			require.NoError(t, b.connections.Refresh(t.Context(), realm))
			token, err := b.connections.Token(t.Context(), realm)
			require.NoError(t, err)
			_, err = b.company(t.Context(), realm, qbo.Token{Access: token})
			require.NoError(t, err, "the live connection goes on")
		})
	}
}

// live stores a connection of the realm.
func (b *bundle) live() connection.Connection {
	b.Helper()
	access, refresh := b.sim.Connect(realm)
	token := qbo.Token{Access: access, Refresh: refresh, AccessExpires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	require.NoError(b, b.connections.Connect(b.Context(), realm, "books", token))
	c, err := b.connections.Get(b.Context(), realm)
	require.NoError(b, err)
	return c
}

// Where Intuit ends the live connection with the new consent, it is known within seconds.
func TestCallback_ChecksTheLiveConnectionAfterAFailedConsent(t *testing.T) {
	t.Parallel()
	r := startRefusing(t)
	r.with(http.StatusServiceUnavailable, "")
	cfg := qbo.DefaultConfig()
	cfg.BaseURL, cfg.ClientID, cfg.ClientSecret = r.url, "client", "secret"
	b := setup(t, func(o *connect.Options) { o.Company = connect.CompanyName(cfg) })
	b.live()
	require.Equal(t, http.StatusBadGateway, b.person().connect(realm).status)
	b.sim.RevokeRealm(realm)
	require.NoError(t, b.connections.RetryDue(t.Context()))
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.ReauthRequired, c.State)
}

// Intuit does not take the new consent back: the owner is told how to end it, and the log
// has Intuit's id of the call.
func TestCallback_SaysWhatWasNotGivenBack(t *testing.T) {
	t.Parallel()
	r := startRefusing(t)
	r.with(http.StatusServiceUnavailable, "")
	cfg := qbo.DefaultConfig()
	cfg.BaseURL, cfg.ClientID, cfg.ClientSecret = r.url, "client", "secret"
	b := setup(t, func(o *connect.Options) { o.Company = connect.CompanyName(cfg) })
	b.live()
	b.sim.SetFaults(qbosim.Faults{RefuseRevoke: true})
	require.Contains(t, b.person().connect(realm).body, connection.OwnerEnds)
	lines := b.logs.FilterMessage("new consent not revoked").All()
	require.Len(t, lines, 1)
	require.NotEmpty(t, lines[0].ContextMap()["intuit_tid"])
}

// A passing error is asked again before a person is sent away.
func TestCallback_AsksAgainAfterAPassingError(t *testing.T) {
	t.Parallel()
	r := startRefusing(t)
	cfg := qbo.DefaultConfig()
	cfg.BaseURL, cfg.ClientID, cfg.ClientSecret = r.url, "client", "secret"
	b := setup(t, func(o *connect.Options) { o.Company = connect.CompanyName(cfg) })
	target, err := url.Parse(b.intuit.URL)
	require.NoError(t, err)
	through := httputil.NewSingleHostReverseProxy(target)
	answer := func(w http.ResponseWriter, req *http.Request) {
		if r.asked.Load() == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		through.ServeHTTP(w, req)
	}
	r.answer.Store(&answer)
	a := b.person().connect(realm)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.EqualValues(t, 2, r.asked.Load())
}

// Intuit's Launch and Reconnect URLs carry realmId.
func TestConnect_TakesIntuitsNameOfTheCompany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	require.Equal(t, http.StatusBadRequest, p.get("/connect?realmId=x").status)
	a := p.do("GET", p.consent(p.begin("?realmId="+realm), "allow", other))
	require.Equal(t, http.StatusConflict, a.status, a.body)
	require.Equal(t, http.StatusOK, p.do("GET", p.consent(p.begin("?realmId="+realm), "allow", realm)).status)
}

// The portal's Disconnect URL: whoever comes has the token checked and learns nothing.
func TestDisconnected_ChecksTheTokenAndRevealsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	p.connect(realm)
	require.NoError(t, b.connections.RetryDue(t.Context()))
	first, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)

	b.sim.RevokeRealm(realm)
	known, unknown, bad := p.get("/disconnected?realmId="+realm), p.get("/disconnected?realmId=404"), p.get("/disconnected?realmId=x")
	for _, a := range []answer{known, unknown, bad, p.get("/disconnected")} {
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, known.body, a.body)
		require.NotContains(t, a.body, realm)
	}
	require.JSONEq(t, `{"outcome":"noted"}`, p.get("/disconnected?realmId="+realm, asJSON).body)
	after, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, first, after, "the page itself changes nothing")
	realms, err := b.connections.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{realm}, realms)

	require.NoError(t, b.connections.RetryDue(t.Context()))
	after, err = b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.ReauthRequired, after.State)
	require.Contains(t, after.Reason, "invalid_grant")
}

// Intuit answers 400 to everything: the page and the API do not say that it is over.
func TestDisconnect_SaysWhatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	// Another program has taken the connection over: Intuit knows none of our tokens.
	b.sim.Connect(realm)
	stale := qbo.Token{Access: "stale", Refresh: "stale", AccessExpires: time.Now().Add(time.Hour)}
	require.NoError(t, b.connections.Connect(t.Context(), realm, "books", stale))
	a := p.post("/realms/"+realm+"/disconnect", asJSON)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Contains(t, a.body, `"revoked":false`)
	require.Contains(t, a.body, connection.OwnerEnds)
	page := p.post("/realms/" + realm + "/disconnect").body
	require.Contains(t, page, "may still be active")
	require.False(t, strings.Contains(page, "is revoked at Intuit"))
}
