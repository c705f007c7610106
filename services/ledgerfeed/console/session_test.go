package console_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

const (
	overview = "/api/v1/overview"
	public   = "https://console.example.com"
)

// logIn returns the cookie of a new session.
func (b *bundle) logIn(token string) string {
	b.Helper()
	resp, body := b.ask(http.MethodPost, "/login", url.Values{"token": {token}})
	require.Equal(b, http.StatusSeeOther, resp.StatusCode, body)
	require.Len(b, resp.Cookies(), 1)
	return resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
}

// status is that of a page of the API, with a cookie.
func (b *bundle) status(cookie string) int {
	b.Helper()
	resp, _ := b.ask(http.MethodGet, overview, nil, "Cookie", cookie)
	return resp.StatusCode
}

// signed is a session as earlier versions signed it, with a key made of the tokens.
func signed(tokens ...string) string {
	h := sha256.New()
	h.Write([]byte("ledgerfeed console session 1"))
	for _, t := range tokens {
		sum := sha256.Sum256([]byte(t))
		h.Write(sum[:])
	}
	text := fmt.Sprintf(`{"w":"ceo@bank.example","r":2,"t":%d}`, time.Now().Add(time.Hour).Unix())
	payload := base64.RawURLEncoding.EncodeToString([]byte(text))
	m := hmac.New(sha256.New, h.Sum(nil))
	m.Write([]byte(payload))
	return payload + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// forgeries are what somebody sends who knows the source code and the viewers' token.
func forgeries() (values []string) {
	known := []string{"", viewerToken}
	for _, a := range known {
		for _, b := range known {
			for _, c := range known {
				values = append(values, signed(a, b, c))
			}
		}
	}
	for _, key := range append(known, strings.Repeat("\x00", 32)) {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte("operator"))
		values = append(values, base64.RawURLEncoding.EncodeToString(m.Sum(nil)))
	}
	return append(values, base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "operator")
}

// With any of the settings set or not, nobody makes a session without a login.
func TestSession_CannotBeForgedWithAnySettings(t *testing.T) {
	t.Parallel()
	set := []func(*console.ConsoleConfig){
		func(c *console.ConsoleConfig) { c.Token = operatorToken },
		func(c *console.ConsoleConfig) { c.ViewerToken = viewerToken },
		func(c *console.ConsoleConfig) { // a public client
			c.OIDCIssuer, c.OIDCClientID, c.Operators = "http://127.0.0.1:9", "console", []string{"ceo@bank.example"}
		},
		func(c *console.ConsoleConfig) { c.OIDCSecret = "a secret of the issuer" },
		func(c *console.ConsoleConfig) { c.SessionKey = secret.String(rand.Text() + rand.Text()) },
	}
	f := setup(t, func(*console.ConsoleConfig) {}).feed
	const aLogin = 1 | 2 | 4 // one of the first three
	for subset := range 1 << len(set) {
		if subset&aLogin == 0 {
			continue
		}
		b := serve(t, f, func(c *console.ConsoleConfig) {
			c.PublicURL = public
			for i, apply := range set {
				if subset&(1<<i) != 0 {
					apply(c)
				}
			}
		})
		for _, value := range forgeries() {
			cookie := "lf_session=" + value + "; __Host-lf_session=" + value
			require.Equal(t, http.StatusUnauthorized, b.status(cookie), "settings %05b, %s", subset, value)
			resp, _ := b.ask(http.MethodPost, "/api/v1/sinks/crm/pause", url.Values{}, "Cookie", cookie)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode, "settings %05b, %s", subset, value)
		}
	}
	paused, err := f.store.PausedSinks(t.Context())
	require.NoError(t, err)
	require.Empty(t, paused)
}

// stored are the sessions in Redis.
func (b *bundle) stored() map[string]string {
	b.Helper()
	all := map[string]string{}
	names, err := b.store.Redis().Keys(b.Context(), "lf:tmp:1:session:*").Result()
	require.NoError(b, err)
	for _, key := range names {
		all[key] = b.store.Redis().Get(b.Context(), key).Val()
	}
	return all
}

// Redis holds neither what a browser sends nor what makes a record valid.
func TestSession_NeedsMoreThanRedis(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	operators, viewers := b.logIn(operatorToken), b.logIn(viewerToken)
	require.Equal(t, http.StatusOK, b.status(operators))
	all := b.stored()
	require.Len(t, all, 2)
	var viewersKey, operatorsValue string
	for key, value := range all {
		for _, secretText := range []string{strings.TrimPrefix(operators, "lf_session="), strings.TrimPrefix(viewers, "lf_session="), operatorToken, viewerToken} {
			require.NotContains(t, key+value, secretText)
		}
		name := strings.NewReplacer("lf:tmp:1:session:{", "", "}", "").Replace(key)
		require.Equal(t, http.StatusUnauthorized, b.status("lf_session="+name), "the stored name is no cookie")
		if strings.Contains(value, "viewer (token)") {
			viewersKey = key
		} else {
			operatorsValue = value
		}
	}
	require.Equal(t, http.StatusForbidden, b.pause(viewers))
	// The record of another session, and one that was altered.
	for _, forged := range []string{operatorsValue, strings.Replace(all[viewersKey], "viewer (token)", "boss@bank.example", 1)} {
		require.NoError(t, b.store.Redis().Set(t.Context(), viewersKey, forged, time.Hour).Err())
		require.Equal(t, http.StatusUnauthorized, b.pause(viewers))
	}
}

func TestSession_Ends(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(b *bundle, cookie string)
	}{
		{"by logout, for a copy of the cookie too", func(b *bundle, cookie string) {
			resp, _ := b.ask(http.MethodPost, "/logout", url.Values{}, "Cookie", cookie)
			require.Equal(b, http.StatusSeeOther, resp.StatusCode)
		}},
		{"by another login of the browser", func(b *bundle, cookie string) {
			resp, _ := b.ask(http.MethodPost, "/login", url.Values{"token": {operatorToken}}, "Cookie", cookie)
			require.Equal(b, http.StatusSeeOther, resp.StatusCode)
			require.NotContains(b, cookie, resp.Cookies()[0].Value)
		}},
		{"by the action", func(b *bundle, _ string) {
			resp, body := b.ask(http.MethodPost, "/api/v1/sessions/end", url.Values{}, "Authorization", "Bearer "+operatorToken)
			require.Equal(b, http.StatusOK, resp.StatusCode, body)
		}},
		{"by the command", func(b *bundle, _ string) { require.NoError(b, b.store.EndSessions(b.Context())) }},
		{"twelve hours after the login", func(b *bundle, cookie string) {
			began := time.Now()
			almost, after := began.Add(12*time.Hour-time.Minute), began.Add(12*time.Hour+time.Minute)
			b.clock.Store(&almost)
			require.Equal(b, http.StatusOK, b.status(cookie))
			b.clock.Store(&after)
		}},
		{"when nobody used it", func(b *bundle, cookie string) {
			for key := range b.stored() {
				life := b.store.Redis().PTTL(b.Context(), key).Val()
				require.LessOrEqual(b, life, time.Hour)
				require.Greater(b, life, 59*time.Minute)
				require.NoError(b, b.store.Redis().Expire(b.Context(), key, 10*time.Minute).Err())
				require.Equal(b, http.StatusOK, b.status(cookie))
				require.Greater(b, b.store.Redis().PTTL(b.Context(), key).Val(), 59*time.Minute, "a request is a use")
				require.NoError(b, b.store.Redis().PExpireAt(b.Context(), key, time.Unix(1, 0)).Err())
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, withTokens)
			cookie := b.logIn(operatorToken)
			require.Equal(t, http.StatusOK, b.status(cookie))
			tc.end(b, cookie)
			require.Equal(t, http.StatusUnauthorized, b.status(cookie))
			require.Equal(t, http.StatusOK, b.status(b.logIn(operatorToken)), "one may log in again")
		})
	}
	t.Run("by an operator alone", func(t *testing.T) {
		t.Parallel()
		b := setup(t, withTokens)
		cookie := b.logIn(viewerToken)
		resp, _ := b.ask(http.MethodPost, "/sessions/end", url.Values{}, "Cookie", cookie)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		require.Equal(t, http.StatusOK, b.status(cookie))
	})
}

// Consoles with the same key share sessions; what a session may do follows from the
// settings of the console that is asked.
func TestSession_RoleFollowsTheSettings(t *testing.T) {
	t.Parallel()
	const key = "0123456789abcdef0123456789abcdef"
	with := func(edit func(*console.ConsoleConfig)) func(*console.ConsoleConfig) {
		return func(c *console.ConsoleConfig) {
			withTokens(c)
			c.SessionKey, c.Replicas = key, 2
			edit(c)
		}
	}
	first := setup(t, with(func(*console.ConsoleConfig) {}))
	cookie := first.logIn(operatorToken)
	for _, tc := range []struct {
		name   string
		edit   func(*console.ConsoleConfig)
		status int
	}{
		{"another replica", func(*console.ConsoleConfig) {}, http.StatusOK},
		{"the token is a viewer's now", func(c *console.ConsoleConfig) { c.Token, c.ViewerToken = "another-token-1234", operatorToken }, http.StatusForbidden},
		{"the token was replaced", func(c *console.ConsoleConfig) { c.Token = "another-token-1234" }, http.StatusUnauthorized},
		{"the key was replaced", func(c *console.ConsoleConfig) { c.SessionKey = "fedcba9876543210fedcba9876543210" }, http.StatusUnauthorized},
		{"the key is drawn", func(c *console.ConsoleConfig) { c.SessionKey, c.Replicas = "", 1 }, http.StatusUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.status, serve(t, first.feed, with(tc.edit)).pause(cookie))
		})
	}
	require.Equal(t, http.StatusOK, first.pause(cookie))
}

// A page that is open is one of the login that opened it, and ends with that.
func TestSession_LivePageEndsWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	cookie := b.logIn(operatorToken)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server.URL+"/events/", nil)
	require.NoError(t, err)
	req.Header.Set("Cookie", cookie)
	resp, err := b.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for key := range b.stored() {
		require.NoError(t, b.store.Redis().Expire(t.Context(), key, 10*time.Minute).Err())
	}
	r := bufio.NewReader(resp.Body)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "data: ")
	for key := range b.stored() {
		require.Less(t, b.store.Redis().PTTL(t.Context(), key).Val(), 11*time.Minute, "an open page is no use of the session")
	}
	out, _ := b.ask(http.MethodPost, "/logout", url.Values{}, "Cookie", cookie)
	require.Equal(t, http.StatusSeeOther, out.StatusCode)
	_, err = io.Copy(io.Discard, r)
	require.NoError(t, err, "the console ends the stream")
}

func TestSession_CookieIsForThisHostAndTLS(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *console.ConsoleConfig) { withTokens(c); c.PublicURL = public })
	resp, _ := b.ask(http.MethodPost, "/login", url.Values{"token": {operatorToken}})
	require.Equal(t, "max-age=31536000", resp.Header.Get("Strict-Transport-Security"))
	require.Len(t, resp.Cookies(), 1)
	c := resp.Cookies()[0]
	require.True(t, strings.HasPrefix(c.Name, "__Host-"), c.Name)
	require.True(t, c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "" && c.SameSite == http.SameSiteStrictMode, c)
	require.Equal(t, http.StatusOK, b.status(c.Name+"="+c.Value))
	require.Equal(t, http.StatusUnauthorized, b.status("lf_session="+c.Value), "a name that other hosts of the domain could set")

	plain := setup(t, withTokens)
	resp, _ = plain.ask(http.MethodPost, "/login", url.Values{"token": {operatorToken}})
	require.False(t, resp.Cookies()[0].Secure, "browsers of this machine come without TLS")
	require.Empty(t, resp.Header.Get("Strict-Transport-Security"))
}

// Without Redis nobody is let in, and nobody is called a stranger.
func TestSession_WithoutRedisIsNoAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, withTokens)
	cookie := b.logIn(operatorToken)
	require.NoError(t, b.store.Close())
	resp, body := b.ask(http.MethodGet, overview, nil, "Cookie", cookie)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	var said struct {
		Error string `json:"error"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &said))
	require.Equal(t, "Redis does not answer", said.Error)
	for _, value := range forgeries() {
		require.Equal(t, http.StatusUnauthorized, b.status("lf_session="+value), "Redis is not asked about what a stranger made up")
	}
}
