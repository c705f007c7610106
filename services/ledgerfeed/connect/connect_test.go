package connect_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
)

func TestConnect_FromTheButtonToTheFirstScan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	a := p.connect(realm)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Contains(t, a.body, "<h1>Connected</h1>")
	require.Contains(t, a.body, "Simulated company "+realm)
	require.NotContains(t, a.body, "<script")
	require.Contains(t, a.header.Get("Content-Security-Policy"), "default-src 'none'")
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(t, "no-referrer", a.header.Get("Referrer-Policy"))

	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.Live, c.State)
	require.Equal(t, "books", c.App)
	require.False(t, c.Token.RefreshHardExpires.IsZero())
	due, err := b.store.Due(t.Context(), realm)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), due, time.Minute, "due at once")
	token, err := b.connections.Token(t.Context(), realm)
	require.NoError(t, err)
	require.NotEmpty(t, token)

	again := p.connect(realm)
	require.Equal(t, http.StatusOK, again.status)
	require.Contains(t, again.body, "Connected again")
}

func TestConnect_GoesToTheRealmsPage(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *connect.Options) { o.RealmURL = func(realm string) string { return "/realms/" + realm } })
	a := b.person().connect(realm)
	require.Equal(t, http.StatusSeeOther, a.status, a.body)
	require.Equal(t, "/realms/"+realm, a.location)
}

func TestConnect_JSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	a := p.get("/connect", asJSON)
	require.Equal(t, http.StatusOK, a.status)
	var begun struct {
		AuthorizeURL string    `json:"authorize_url"`
		ExpiresAt    time.Time `json:"expires_at"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &begun))
	require.WithinDuration(t, time.Now().Add(connection.ConsentTime), begun.ExpiresAt, time.Minute)
	a = p.do(http.MethodGet, p.consent(begun.AuthorizeURL, "allow", realm), asJSON)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.JSONEq(t, `{"realm":"`+realm+`","company":"Simulated company `+realm+`","app":"books","state":"live","again":false}`, a.body)

	a = p.get("/connect/callback?state=x&code=c&realmId=1", asJSON)
	require.Equal(t, http.StatusGone, a.status)
	require.Contains(t, a.body, `"code":"state_unknown"`)
}

// Nothing but a whole, fresh consent that this browser began connects anything.
func TestCallback_RefusesWhatIsNotAConsentOfThisBrowser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, tt := range []struct {
		name   string
		status int
		text   string
		come   func(p *person, back string) answer
	}{
		{"no parameters", 400, "state is missing", func(p *person, _ string) answer { return p.get("/connect/callback") }},
		{"no state", 400, "state is missing", func(p *person, back string) answer { return p.do("GET", with(t, back, "state", "")) }},
		{"another state", 410, "used up", func(p *person, back string) answer { return p.do("GET", with(t, back, "state", "GUESS")) }},
		{"state of another browser", 403, "another browser", func(_ *person, back string) answer { return b.person().do("GET", back) }},
		{"state of another consent", 403, "another browser", func(p *person, back string) answer {
			victim := b.person()
			victim.begin("")
			return victim.do("GET", back)
		}},
		{"twice a parameter", 400, "realmId is given twice", func(p *person, back string) answer { return p.do("GET", back+"&realmId=1") }},
		{"no code", 400, "code is missing", func(p *person, back string) answer { return p.do("GET", with(t, back, "code", "")) }},
		{"another code", 400, "does not take this link", func(p *person, back string) answer { return p.do("GET", with(t, back, "code", "guess")) }},
		{"no realm", 400, "digits only", func(p *person, back string) answer { return p.do("GET", with(t, back, "realmId", "")) }},
		{"an odd realm", 400, "digits only", func(p *person, back string) answer { return p.do("GET", with(t, back, "realmId", "../1")) }},
		{"another company's id", 400, "the consent is for another company", func(p *person, back string) answer { return p.do("GET", with(t, back, "realmId", other)) }},
		{"an error of Intuit's", 502, "Intuit says invalid_scope??", func(p *person, back string) answer {
			return p.do("GET", with(t, with(t, back, "code", ""), "error", "invalid_scope\u202e\n"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := b.person()
			a := tt.come(p, p.consent(p.begin(""), "allow", realm))
			require.Equal(t, tt.status, a.status, a.body)
			require.Contains(t, a.body, tt.text)
			require.Contains(t, a.body, `href="`+prefix+`/connect"`, "a way to begin again")
			for _, id := range []string{realm, other} {
				_, err := b.connections.Get(t.Context(), id)
				require.ErrorIs(t, err, connection.ErrNotConnected)
			}
		})
	}
}

func TestCallback_IsGoodOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	back := p.consent(p.begin(""), "allow", realm)
	require.Equal(t, http.StatusOK, p.do("GET", back).status)
	before, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, http.StatusGone, p.do("GET", back).status)
	after, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, before.Generation, after.Generation)

	// Shown in the wrong browser, it is used up for the right one, too.
	back = p.consent(p.begin(""), "allow", realm)
	require.Equal(t, http.StatusForbidden, b.person().do("GET", back).status)
	require.Equal(t, http.StatusGone, p.do("GET", back).status)
}

func TestCallback_RunsOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	back := p.consent(p.begin(""), "allow", realm)
	u, err := url.Parse(back)
	require.NoError(t, err)
	ttl, err := b.store.Redis().TTL(t.Context(), "lf:tmp:1:consent:{"+u.Query().Get("state")+"}").Result()
	require.NoError(t, err)
	require.InDelta(t, connection.ConsentTime.Seconds(), ttl.Seconds(), 60)
	require.NoError(t, b.store.Redis().PExpire(t.Context(), "lf:tmp:1:consent:{"+u.Query().Get("state")+"}", time.Millisecond).Err())
	require.Eventually(t, func() bool { return p.do("GET", back).status == http.StatusGone }, 10*time.Second, 10*time.Millisecond)
}

func TestCallback_RefusalIsNoFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	a := p.do("GET", p.consent(p.begin(""), "deny", realm))
	require.Equal(t, http.StatusForbidden, a.status)
	require.Contains(t, a.body, "consent was not given")
}

// Two tabs of one browser do not disturb each other.
func TestConnect_SeveralAtOnceInOneBrowser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	first, second := p.begin(""), p.begin("")
	require.Equal(t, http.StatusOK, p.do("GET", p.consent(second, "allow", other)).status)
	require.Equal(t, http.StatusOK, p.do("GET", p.consent(first, "allow", realm)).status)
}

func TestConnect_AnewIsForThatCompany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	require.Equal(t, http.StatusBadRequest, p.get("/connect?realm=x").status)
	a := p.do("GET", p.consent(p.begin("?realm="+realm), "allow", other))
	require.Equal(t, http.StatusConflict, a.status, a.body)
	require.Contains(t, a.body, other)
	require.Equal(t, http.StatusOK, p.do("GET", p.consent(p.begin("?realm="+realm), "allow", realm)).status)
}

func TestDisconnect_RevokesForgetsAndKeepsTheCursors(t *testing.T) {
	t.Parallel()
	const name = "Craig & Sons"
	b := setup(t, func(o *connect.Options) {
		o.Names = func(context.Context, []string) (map[string]string, error) { return map[string]string{realm: name}, nil }
	})
	p := b.person()
	p.connect(realm)
	at := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	require.NoError(t, b.store.AdvanceCursors(t.Context(), realm, map[string]time.Time{"Invoice": at}))
	before, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)

	ask := p.get("/realms/" + realm + "/disconnect")
	require.Equal(t, http.StatusOK, ask.status)
	require.Contains(t, ask.body, `action="`+prefix+`/realms/`+realm+`/disconnect"`)
	require.Contains(t, ask.body, "<dd>Craig &amp; Sons</dd>")
	require.Equal(t, http.StatusMethodNotAllowed, p.do(http.MethodPut, b.server.URL+prefix+"/realms/"+realm+"/disconnect").status)

	a := p.post("/realms/" + realm + "/disconnect")
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Contains(t, a.body, "revoked at Intuit")
	require.Contains(t, a.body, "Craig &amp; Sons (company "+realm+")")
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.Disconnected, c.State)
	require.Empty(t, c.Token)
	_, err = b.oauth.Refresh(t.Context(), before.Token.Refresh)
	require.ErrorContains(t, err, "invalid_grant", "Intuit takes it no more")
	cursors, err := b.store.Cursors(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, at, cursors["Invoice"])

	a = p.post("/realms/"+realm+"/disconnect", asJSON)
	require.JSONEq(t, `{"realm":"`+realm+`","state":"disconnected","revoked":true}`, a.body, "again is no error")
	require.Equal(t, http.StatusNotFound, p.post("/realms/1/disconnect").status)
	require.Equal(t, http.StatusBadRequest, p.post("/realms/x/disconnect").status)
}

func TestDisconnect_OnlyFromOurOwnPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	p.connect(realm)
	for name, header := range map[string][2]string{
		"by fetch metadata": {"Sec-Fetch-Site", "cross-site"}, "of a sibling": {"Sec-Fetch-Site", "same-site"}, "by origin": {"Origin", "https://evil.example"},
	} {
		a := p.post("/realms/"+realm+"/disconnect", func(r *http.Request) { r.Header.Set(header[0], header[1]) })
		require.Equal(t, http.StatusForbidden, a.status, name)
		a = p.post("/tokens", func(r *http.Request) { r.Header.Set(header[0], header[1]) })
		require.Equal(t, http.StatusForbidden, a.status, name)
	}
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.Live, c.State)
	a := p.post("/realms/"+realm+"/disconnect", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") })
	require.Equal(t, http.StatusOK, a.status)
}

// Intuit being away forgets nothing, unless somebody insists.
func TestDisconnect_WithoutIntuit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	p.connect(realm)
	b.intuit.Close()
	a := p.post("/realms/" + realm + "/disconnect")
	require.Equal(t, http.StatusBadGateway, a.status)
	require.Contains(t, a.body, `name="forget" value="true"`)
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, connection.Live, c.State)
	a = p.post("/realms/" + realm + "/disconnect?forget=true")
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.body, "Its owner has to disconnect the app")
}

func TestPages_ShowNoSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.person()
	begin := p.begin("")
	back := p.consent(begin, "allow", realm)
	page := p.do("GET", back).body + p.do("GET", back).body + p.get("/realms/"+realm+"/disconnect").body
	u, err := url.Parse(back)
	require.NoError(t, err)
	c, err := b.connections.Get(t.Context(), realm)
	require.NoError(t, err)
	var log strings.Builder
	for _, e := range b.logs.All() {
		log.WriteString(e.Message)
		for k, v := range e.ContextMap() {
			log.WriteString(k)
			text, err := json.Marshal(v)
			require.NoError(t, err)
			log.Write(text)
		}
	}
	for _, hidden := range []string{u.Query().Get("code"), u.Query().Get("state"), c.Token.Access.Reveal(), c.Token.Refresh.Reveal()} {
		require.NotEmpty(t, hidden)
		require.NotContains(t, page+log.String(), hidden)
	}
}
