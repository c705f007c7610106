package console_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// visitor is a browser between the console and an issuer.
type visitor struct {
	*bundle
	issuer *mockoidc.MockOIDC
	cookie string
}

// begin is the login until the issuer sends the browser back; it returns where to.
func (v *visitor) begin(user *mockoidc.MockUser) string {
	v.Helper()
	v.issuer.QueueUser(user)
	resp, body := v.ask(http.MethodGet, "/login/start", nil)
	require.Equal(v, http.StatusSeeOther, resp.StatusCode, body)
	require.True(v, strings.HasPrefix(resp.Header.Get("Location"), v.issuer.AuthorizationEndpoint()), "it leads to the issuer")
	require.Len(v, resp.Cookies(), 1)
	v.cookie = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	req, err := http.NewRequestWithContext(v.Context(), http.MethodGet, resp.Header.Get("Location"), nil)
	require.NoError(v, err)
	there, err := v.client.Do(req)
	require.NoError(v, err)
	defer there.Body.Close()
	said, err := io.ReadAll(there.Body)
	require.NoError(v, err)
	back, err := url.Parse(there.Header.Get("Location"))
	require.NoError(v, err)
	require.Equal(v, "console.example.com", back.Host, "%s %s", there.Status, said)
	return back.RequestURI()
}

// Who logs in at an issuer, by PKCE and with a nonce, is what the settings make of the
// e-mail address, if the issuer has verified it.
func TestOIDC_AnIssuerLogsPeopleIn(t *testing.T) {
	issuer, err := mockoidc.Run()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, issuer.Shutdown()) })
	b := setup(t, func(c *console.ConsoleConfig) {
		c.PublicURL, c.OIDCIssuer = "https://console.example.com", issuer.Issuer()
		c.OIDCClientID, c.OIDCSecret = issuer.Config().ClientID, secret.String(issuer.Config().ClientSecret)
		c.Operators, c.Viewers = []string{"Anna@books.example"}, []string{"@books.example"}
	})
	v := &visitor{bundle: b, issuer: issuer}
	person := func(email string, verified bool) *mockoidc.MockUser {
		return &mockoidc.MockUser{Subject: email, Email: email, EmailVerified: verified}
	}
	for _, tc := range []struct {
		name   string
		user   *mockoidc.MockUser
		alter  func(back string) string
		status int
		acts   bool
	}{
		{"operator", person("anna@books.example", true), nil, http.StatusOK, true},
		{"viewer by domain", person("bert@books.example", true), nil, http.StatusOK, false},
		{"stranger", person("anna@elsewhere.example", true), nil, http.StatusForbidden, false},
		{"address nobody verified", person("anna@books.example", false), nil, http.StatusUnauthorized, false},
		{"state of another login", person("anna@books.example", true), func(back string) string { return strings.Replace(back, "state=", "state=x", 1) }, http.StatusUnauthorized, false},
		{"code that is none", person("anna@books.example", true), func(back string) string { return strings.Replace(back, "code=", "code=x", 1) }, http.StatusUnauthorized, false},
		{"browser that began no login", person("anna@books.example", true), func(back string) string { v.cookie = "a=b"; return back }, http.StatusUnauthorized, false},
		{"cookie that was altered", person("anna@books.example", true), func(back string) string { v.cookie += "x"; return back }, http.StatusUnauthorized, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			back := v.begin(tc.user)
			if tc.alter != nil {
				back = tc.alter(back)
			}
			resp, body := v.ask(http.MethodGet, back, nil, "Cookie", v.cookie)
			require.Equal(t, tc.status, resp.StatusCode, body)
			if tc.status != http.StatusOK {
				require.NotContains(t, strings.Join(resp.Header.Values("Set-Cookie"), " "), "lf_session=")
				return
			}
			session := ""
			for _, c := range resp.Cookies() {
				if c.Value != "" {
					session = c.Name + "=" + c.Value
					require.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteStrictMode, c)
				}
			}
			resp, body = v.ask(http.MethodGet, "/api/v1/overview", nil, "Cookie", session)
			require.Equal(t, http.StatusOK, resp.StatusCode, body)
			resp, body = v.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, "Cookie", session)
			require.Equal(t, tc.acts, resp.StatusCode == http.StatusOK, body)

			// The code was for once.
			resp, _ = v.ask(http.MethodGet, back, nil, "Cookie", v.cookie)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		})
	}
}

// session is the cookie of the login that the issuer sent back.
func (v *visitor) session(back string) string {
	v.Helper()
	resp, body := v.ask(http.MethodGet, back, nil, "Cookie", v.cookie)
	require.Equal(v, http.StatusOK, resp.StatusCode, body)
	for _, c := range resp.Cookies() {
		if c.Value != "" {
			return c.Name + "=" + c.Value
		}
	}
	v.Fatal("no session")
	return ""
}

// pause is the status of an action by a session.
func (b *bundle) pause(session string) int {
	b.Helper()
	resp, _ := b.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, "Cookie", session)
	return resp.StatusCode
}

// Members of groups need no address, which the issuer may not have verified.
func TestOIDC_GroupsGiveRoles(t *testing.T) {
	issuer, err := mockoidc.Run()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, issuer.Shutdown()) })
	b := setup(t, func(c *console.ConsoleConfig) {
		c.PublicURL, c.OIDCIssuer = public, issuer.Issuer()
		c.OIDCClientID, c.OIDCSecret = issuer.Config().ClientID, secret.String(issuer.Config().ClientSecret)
		c.Scopes, c.Operators = []string{"email", "groups"}, []string{"anna@books.example"}
		c.OperatorGroups, c.ViewerGroups = []string{"ops"}, []string{"staff"}
	})
	v := &visitor{bundle: b, issuer: issuer}
	for _, tc := range []struct {
		name   string
		user   mockoidc.MockUser
		status int // of an action; 0: no login
	}{
		{"operator", mockoidc.MockUser{Subject: "1", Groups: []string{"all", "ops"}}, http.StatusOK},
		{"viewer", mockoidc.MockUser{Subject: "2", Groups: []string{"staff"}}, http.StatusForbidden},
		{"the higher role of both", mockoidc.MockUser{Subject: "3", Groups: []string{"staff"}, Email: "anna@books.example", EmailVerified: true}, http.StatusOK},
		{"an address that nobody verified adds nothing", mockoidc.MockUser{Subject: "4", Groups: []string{"staff"}, Email: "anna@books.example"}, http.StatusForbidden},
		{"no group", mockoidc.MockUser{Subject: "5", Groups: []string{"opsx", "OPS"}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			back := v.begin(&tc.user)
			if tc.status == 0 {
				resp, body := v.ask(http.MethodGet, back, nil, "Cookie", v.cookie)
				require.Equal(t, http.StatusForbidden, resp.StatusCode, body)
				require.EqualValues(t, 1, b.logins()["oidc refused"])
				return
			}
			require.Equal(t, tc.status, v.pause(v.session(back)))
		})
	}
}

// A person who is taken off the list loses the role with the next request, not with the
// next login.
func TestOIDC_RoleFollowsTheSettings(t *testing.T) {
	issuer, err := mockoidc.Run()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, issuer.Shutdown()) })
	with := func(operators, viewers []string) func(*console.ConsoleConfig) {
		return func(c *console.ConsoleConfig) {
			c.PublicURL, c.OIDCIssuer, c.SessionKey = public, issuer.Issuer(), goodKey
			c.OIDCClientID, c.OIDCSecret = issuer.Config().ClientID, secret.String(issuer.Config().ClientSecret)
			c.Operators, c.Viewers = operators, viewers
		}
	}
	anna, bert := []string{"anna@books.example"}, []string{"bert@books.example"}
	v := &visitor{bundle: setup(t, with(anna, nil)), issuer: issuer}
	session := v.session(v.begin(&mockoidc.MockUser{Subject: "1", Email: "anna@books.example", EmailVerified: true}))
	require.Equal(t, http.StatusOK, v.pause(session))
	require.Equal(t, http.StatusForbidden, serve(t, v.feed, with(bert, anna)).pause(session), "a viewer now")
	require.Equal(t, http.StatusUnauthorized, serve(t, v.feed, with(bert, nil)).pause(session), "gone")
	require.Equal(t, http.StatusUnauthorized, serve(t, v.feed, func(c *console.ConsoleConfig) {
		with(anna, nil)(c)
		c.OIDCIssuer = "https://accounts.elsewhere.example"
	}).pause(session), "another issuer")
}

// A login that was begun ten minutes ago is no more.
func TestOIDC_ALoginUnderWayEnds(t *testing.T) {
	issuer, err := mockoidc.Run()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, issuer.Shutdown()) })
	b := setup(t, func(c *console.ConsoleConfig) {
		c.PublicURL, c.OIDCIssuer = public, issuer.Issuer()
		c.OIDCClientID, c.OIDCSecret = issuer.Config().ClientID, secret.String(issuer.Config().ClientSecret)
		c.Operators = []string{"anna@books.example"}
	})
	v := &visitor{bundle: b, issuer: issuer}
	back := v.begin(&mockoidc.MockUser{Subject: "1", Email: "anna@books.example", EmailVerified: true})
	later := time.Now().Add(11 * time.Minute)
	b.clock.Store(&later)
	resp, body := v.ask(http.MethodGet, back, nil, "Cookie", v.cookie)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode, body)
}
