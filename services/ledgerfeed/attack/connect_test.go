package attack_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/stretchr/testify/require"
)

// begun is what a browser has after /connect: the state, and its cookie.
func (s *stack) begun(client *http.Client) (state, cookie string) {
	s.Helper()
	a := s.send(client, http.MethodGet, s.console("console", "/connect"), nil, "Authorization", "Bearer "+operatorToken, "Accept", "text/html")
	require.Equal(s, http.StatusSeeOther, a.status, a.body)
	target, err := url.Parse(a.header.Get("Location"))
	require.NoError(s, err)
	cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
	require.NotEmpty(s, cookie)
	return target.Query().Get("state"), cookie
}

// live requires that nobody has replaced the connection of a company.
func (s *stack) live(realm, updated string) {
	s.Helper()
	conn, err := s.connections.Get(s.Context(), realm)
	require.NoError(s, err)
	require.Equal(s, "live", string(conn.State))
	require.Equal(s, updated, conn.ConnectedAt.String())
}

// consents: a company's tokens are replaced by a consent that is another's, used before,
// or was begun by somebody else.
func (s *stack) consents() {
	client := s.client(attacker)
	before, err := s.connections.Get(s.Context(), victim)
	require.NoError(s, err)
	connected := before.ConnectedAt.String()
	callback := func(values url.Values, header ...string) answer {
		return s.send(client, http.MethodGet, s.console("console", "/connect/callback?"+values.Encode()), nil, header...)
	}
	// Without a login nobody begins.
	a := s.send(client, http.MethodGet, s.console("console", "/connect"), nil)
	require.NotContains(s, a.header.Get("Location"), "state=")
	state, cookie := s.begun(client)
	other, _ := s.begun(client)
	code := func() string { return s.sim.Authorize(company) }
	for what, tc := range map[string]struct {
		values url.Values
		cookie string
	}{
		"no cookie":         {url.Values{"state": {state}, "code": {code()}, "realmId": {company}}, ""},
		"another browser":   {url.Values{"state": {state}, "code": {code()}, "realmId": {company}}, "lf_connect=x"},
		"no state":          {url.Values{"code": {code()}, "realmId": {company}}, cookie},
		"invented state":    {url.Values{"state": {"x" + other}, "code": {code()}, "realmId": {company}}, cookie},
		"no company":        {url.Values{"state": {state}, "code": {code()}, "realmId": {"1/../2"}}, cookie},
		"an invented code":  {url.Values{"state": {other}, "code": {"invented"}, "realmId": {victim}}, cookie},
		"a refused consent": {url.Values{"state": {other}, "error": {"access_denied"}}, cookie},
	} {
		got := callback(tc.values, "Cookie", tc.cookie)
		require.GreaterOrEqual(s, got.status, 400, what)
	}
	// The code is for one company, and the browser says it is another.
	state, cookie = s.begun(client)
	got := callback(url.Values{"state": {state}, "code": {code()}, "realmId": {victim}}, "Cookie", cookie)
	require.GreaterOrEqual(s, got.status, 400, got.body)
	s.live(victim, connected)
	// The same once more is used up.
	again := callback(url.Values{"state": {state}, "code": {code()}, "realmId": {company}}, "Cookie", cookie)
	require.GreaterOrEqual(s, again.status, 400)
	// The API does not answer: nothing is proved.
	require.True(s, s.startConsole("no-api", map[string]string{
		"CONSOLE_TOKEN": operatorToken, "CONSOLE_APP": "production", "QBO_REDIRECT_URL": "http://127.0.0.1/connect/callback", "QBO_BASE_URL": "http://127.0.0.1:9",
	}))
	s.listen["console"], s.listen["no-api"] = s.listen["no-api"], s.listen["console"]
	state, cookie = s.begun(client)
	got = callback(url.Values{"state": {state}, "code": {code()}, "realmId": {victim}}, "Cookie", cookie)
	s.listen["console"], s.listen["no-api"] = s.listen["no-api"], s.listen["console"]
	require.GreaterOrEqual(s, got.status, 400)
	s.live(victim, connected)
}

// connectBehindAProxy: the pages by which people connect, behind the TLS proxy that Intuit
// needs, disconnect nobody.
func (s *stack) connectBehindAProxy() {
	listen := s.free()
	s.listen["connect"] = listen
	s.run("connect", "ledgerfeed", []string{"connect", "--listen", listen}, map[string]string{"QBO_REDIRECT_URL": "https://connect.example.com/connect/callback"})
	s.serves("connect")
	client := s.client("127.0.0.1")
	for _, host := range []string{"connect.example.com", listen, "evil.example"} {
		for i, header := range append(proxied(), nil) {
			if header == nil && host == listen {
				continue // that is a person at this machine
			}
			for _, path := range []string{"/realms/" + victim + "/disconnect", "/realms/" + victim + "/token", "/tokens"} {
				a := s.send(client, http.MethodPost, "http://"+listen+path, strings.NewReader(`{}`), append([]string{"Host", host, "Accept", "application/json", "Content-Type", "application/json"}, header...)...)
				require.GreaterOrEqual(s, a.status, 400, fmt.Sprint(host, path, i))
			}
			a := s.send(client, http.MethodGet, "http://"+listen+"/realms/"+victim+"/disconnect", nil, append([]string{"Host", host}, header...)...)
			require.GreaterOrEqual(s, a.status, 400, "it says who is a customer")
		}
	}
	conn, err := s.connections.Get(s.Context(), victim)
	require.NoError(s, err)
	require.Equal(s, "live", string(conn.State))
}
