package attack_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"
)

// console is the address of one of the consoles.
func (s *stack) console(name, path string) string { return "http://" + s.listen[name] + path }

// forge makes a cookie as an operator's was once signed, from the secrets that an
// attacker knows or can guess.
func forge(secrets ...string) string {
	key := sha256.New()
	key.Write([]byte("ledgerfeed console session 1"))
	for _, known := range secrets {
		sum := sha256.Sum256([]byte(known))
		key.Write(sum[:])
	}
	text, err := json.Marshal(map[string]any{"w": "ceo@bank.example", "r": 2, "t": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		panic(err) // these always encode
	}
	payload := base64.RawURLEncoding.EncodeToString(text)
	mac := hmac.New(sha256.New, key.Sum(nil))
	mac.Write([]byte(payload))
	return payload + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// startConsole starts a console, which may refuse to start: then nobody gets in either.
func (s *stack) startConsole(name string, settings map[string]string) (runs bool) {
	s.Helper()
	p := s.run(name, "ledgerfeed", []string{"console"}, settings)
	s.serves(name)
	return !p.over()
}

func (s *stack) forgedSessions() {
	consoles := map[string][][]string{}
	if s.startConsole("public-oidc", map[string]string{
		"CONSOLE_OIDC_ISSUER": "http://127.0.0.1:9", "CONSOLE_OIDC_CLIENT_ID": "console", "CONSOLE_OIDC_OPERATORS": "ceo@bank.example",
		"CONSOLE_PUBLIC_URL": "https://console.example.com",
	}) {
		consoles["public-oidc"] = [][]string{{"", "", ""}, {"console", "", ""}, {"", "", "console"}}
	}
	if s.startConsole("viewers-only", map[string]string{"CONSOLE_VIEWER_TOKEN": viewerToken}) {
		consoles["viewers-only"] = [][]string{{"", "", ""}, {"", viewerToken, ""}, {viewerToken, viewerToken, ""}}
	}
	consoles["console"] = [][]string{{"", "", ""}, {"", viewerToken, ""}, {viewerToken, "", ""}}
	for name, known := range consoles {
		hosts := []string{s.listen[name], "console.example.com"}
		for _, secrets := range known {
			for _, cookie := range []string{"lf_session", "__Host-lf_session"} {
				for _, host := range hosts {
					for _, way := range []string{"/api/v1/sinks/SINK/pause", "/sinks/SINK/pause"} {
						a := s.send(s.client(attacker), http.MethodPost, s.console(name, way), nil, "Cookie", cookie+"="+forge(secrets...), "Host", host, "X-Forwarded-Proto", "https")
						s.stranger(a, fmt.Sprint(name, secrets))
					}
				}
			}
		}
		for _, cookie := range []string{"", "x", "x.y", "..", strings.Repeat("A", 3000), "e30.", "e30.e30"} {
			a := s.send(s.client(attacker), http.MethodGet, s.console(name, "/api/v1/overview"), nil, "Cookie", "lf_session="+cookie)
			s.stranger(a, name)
		}
	}
	paused, err := s.store.PausedSinks(s.Context())
	require.NoError(s, err)
	require.Empty(s, paused)
}

// stranger requires that nobody's request was taken for somebody's.
func (s *stack) stranger(a answer, what string) {
	s.Helper()
	if a.status == http.StatusSeeOther {
		require.Contains(s, a.header.Get("Location"), "/login", what)
		return
	}
	require.Contains(s, []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest}, a.status, what)
}

// login posts the form and returns the status; 303 is a session.
func (s *stack) login(client *http.Client, console, token string) int {
	a, err := try(s.Context(), client, http.MethodPost, s.console(console, "/login"), strings.NewReader(url.Values{"token": {token}}.Encode()),
		"Content-Type", "application/x-www-form-urlencoded")
	if err != nil {
		return 0
	}
	return a.status
}

// loginFlood: a stranger who guesses tokens, by the form and by the header, gets none and
// keeps nobody out.
func (s *stack) loginFlood() {
	var wrong, in atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		client := s.client(attacker)
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if s.login(client, "console", fmt.Sprint("guess-of-a-token-", i)) == http.StatusSeeOther {
					in.Add(1)
				}
				a, err := try(s.Context(), client, http.MethodGet, s.console("console", "/api/v1/overview"), nil, "Authorization", fmt.Sprint("Bearer guess-of-a-token-", i))
				if err == nil && a.status == http.StatusOK {
					in.Add(1)
				}
				wrong.Add(2)
			}
		})
	}
	require.Eventually(s, func() bool { return wrong.Load() > 100 }, patience, 10*time.Millisecond)
	good := 0
	for range 20 {
		if s.login(s.client("127.0.0.1"), "console", operatorToken) == http.StatusSeeOther {
			good++
		}
	}
	bearer := s.send(s.client("127.0.0.1"), http.MethodGet, s.console("console", "/api/v1/sinks"), nil, "Authorization", "Bearer "+operatorToken)
	// Who shares the attacker's address, behind one proxy, has the right token all the same.
	same := s.login(s.client(attacker), "console", operatorToken)
	close(stop)
	all.Wait()
	require.Zero(s, in.Load())
	require.Equal(s, 20, good, "the right token always gets in; %d wrong ones were sent", wrong.Load())
	require.Equal(s, http.StatusOK, bearer.status)
	require.Equal(s, http.StatusSeeOther, same)
}

// multipartOf is a form of one large part.
func multipartOf(size int) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormField("token")
	if err == nil {
		_, err = part.Write(bytes.Repeat([]byte("x"), size))
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

// loginBodies: forms that are large, on the page that needs no login.
func (s *stack) loginBodies() {
	form, kind := multipartOf(31 << 20)
	plain := []byte("token=" + strings.Repeat("x", 8<<20))
	var all sync.WaitGroup
	for range max(3, sized(18)) {
		client := s.client(attacker)
		all.Go(func() {
			_, _ = try(s.Context(), client, http.MethodPost, s.console("console", "/login"), bytes.NewReader(form), "Content-Type", kind)
			_, _ = try(s.Context(), client, http.MethodPost, s.console("console", "/login"), bytes.NewReader(plain), "Content-Type", "application/x-www-form-urlencoded")
			_, _ = try(s.Context(), client, http.MethodPost, s.console("console", "/logout"), io.MultiReader(bytes.NewReader(plain)), "Content-Type", kind)
		})
	}
	all.Wait()
	require.Less(s, s.running["console"].memory(s.T, "VmHWM"), int64(128<<20))
	for what, send := range map[string]struct {
		body []byte
		kind string
	}{"multipart": {form[:1000], kind}, "plain text": {[]byte("token=x"), "text/plain"}, "large": {plain, "application/x-www-form-urlencoded"}} {
		a, err := try(s.Context(), s.client(attacker), http.MethodPost, s.console("console", "/login"), bytes.NewReader(send.body), "Content-Type", send.kind)
		if err == nil {
			require.GreaterOrEqual(s, a.status, 400, what)
		}
	}
	require.Equal(s, http.StatusSeeOther, s.login(s.client("127.0.0.1"), "console", operatorToken))
}

// viewer: who may only look acts.
func (s *stack) viewer() {
	client := s.client(attacker)
	for _, path := range []string{
		"/api/v1/sinks/SINK/pause", "/api/v1/realms/" + company + "/scan", "/api/v1/realms/" + company + "/backfill", "/api/v1/dead/purge", "/api/v1/dead/requeue",
		"/api/v1/test", "/realms/" + company + "/disconnect", "/realms/" + company + "/token", "/tokens",
	} {
		a := s.send(client, http.MethodPost, s.console("console", path), nil, "Authorization", "Bearer "+viewerToken)
		require.Equal(s, http.StatusForbidden, a.status, path)
		a = s.send(client, http.MethodGet, s.console("console", path), nil, "Authorization", "Bearer "+viewerToken, "X-HTTP-Method-Override", "POST")
		require.NotEqual(s, http.StatusOK, a.status, path)
	}
	require.NotEmpty(s, s.sim.Realms())
	conn, err := s.connections.Get(s.Context(), company)
	require.NoError(s, err)
	require.Equal(s, "live", string(conn.State))
}

// trail is what the console shows of it.
func (s *stack) trail() (entries []struct {
	Who, What, Outcome, From string
	Count                    int
}) {
	s.Helper()
	a := s.send(s.client("127.0.0.1"), http.MethodGet, s.console("console", "/api/v1/actions"), nil, "Authorization", "Bearer "+operatorToken)
	require.Equal(s, http.StatusOK, a.status, a.body)
	var page struct {
		Actions []struct {
			Who, What, Outcome, From string
			Count                    int
		}
	}
	require.NoError(s, json.Unmarshal([]byte(a.body), &page))
	return page.Actions
}

// erasedTrail: a viewer who is refused again and again pushes nothing out of the trail.
func (s *stack) erasedTrail() {
	_, err := s.store.SetSinks(s.Context(), []string{"changes"})
	require.NoError(s, err)
	sinks, err := s.store.Sinks(s.Context())
	require.NoError(s, err)
	require.NotEmpty(s, sinks)
	for _, verb := range []string{"pause", "resume"} {
		a := s.send(s.client("127.0.0.1"), http.MethodPost, s.console("console", "/api/v1/sinks/"+sinks[0]+"/"+verb), nil, "Authorization", "Bearer "+operatorToken)
		require.Equal(s, http.StatusOK, a.status, a.body)
	}
	before := len(s.trail())
	client := s.client(attacker)
	for range sized(10_400) {
		a := s.send(client, http.MethodPost, s.console("console", "/api/v1/sinks/"+sinks[0]+"/pause"), nil, "Authorization", "Bearer "+viewerToken)
		require.Equal(s, http.StatusForbidden, a.status)
	}
	after := s.trail()
	require.LessOrEqual(s, len(after)-before, 3, "they are counted")
	var whats []string
	for _, e := range after {
		whats = append(whats, e.Who+" "+e.What)
	}
	require.Contains(s, whats, "operator (token) pause")
	require.Contains(s, whats, "operator (token) resume")
	refused := false
	for _, e := range after {
		refused = refused || e.Who == "viewer (token)" && strings.HasPrefix(e.Outcome, "refused")
	}
	require.True(s, refused, "and one of them is there")
	// Logins, and failed ones, are there too.
	require.Equal(s, http.StatusSeeOther, s.login(s.client("127.0.0.1"), "console", operatorToken))
	logins := 0
	for _, e := range s.trail() {
		if e.What == "login" && e.Outcome == "done" && e.From == "127.0.0.1" {
			logins++
		}
	}
	require.Positive(s, logins)
	// The chain is whole.
	p := s.run("verify", "ledgerfeed", []string{"actions", "verify"}, nil)
	<-p.ended
	require.Zero(s, p.cmd.ProcessState.ExitCode(), &p.output)
}

// crossSite: the page of another site sends what an operator's browser adds a session to.
func (s *stack) crossSite() {
	client := s.client("127.0.0.1")
	a := s.send(client, http.MethodPost, s.console("console", "/login"), strings.NewReader("token="+operatorToken), "Content-Type", "application/x-www-form-urlencoded")
	require.Equal(s, http.StatusSeeOther, a.status)
	cookie := a.header.Get("Set-Cookie")
	require.Contains(s, cookie, "HttpOnly")
	require.Contains(s, cookie, "SameSite=Strict")
	session, _, _ := strings.Cut(cookie, ";")
	for what, header := range map[string][]string{
		"cross-site":  {"Sec-Fetch-Site", "cross-site"},
		"same-site":   {"Sec-Fetch-Site", "same-site"},
		"origin":      {"Origin", "https://evil.example"},
		"null":        {"Origin", "null"},
		"a port":      {"Origin", "http://127.0.0.1:1"},
		"the console": {"Origin", "https://console.example.com.evil.example"},
	} {
		for _, path := range []string{"/sinks/changes/pause", "/api/v1/sinks/changes/pause", "/realms/" + company + "/disconnect", "/logout"} {
			a := s.send(client, http.MethodPost, s.console("console", path), nil, append([]string{"Cookie", session}, header...)...)
			require.Equal(s, http.StatusForbidden, a.status, "%s: %s", what, path)
		}
	}
	paused, err := s.store.PausedSinks(s.Context())
	require.NoError(s, err)
	require.Empty(s, paused)
}

const script = `<script>alert(1)</script><img src=x onerror=alert(1)>`

// scripts: what was received from strangers is text on every page.
func (s *stack) scripts() {
	status, _ := s.webhook(s.client(attacker), "production", productionToken, bodyOf(event(company, script, script, "updated", time.Now())))
	require.Equal(s, http.StatusOK, status)
	status, _ = s.webhook(s.client(attacker), "production", productionToken, []byte("no JSON: "+script))
	require.Equal(s, http.StatusOK, status)
	s.settled()
	ask := func(path string) {
		a := s.send(s.client("127.0.0.1"), http.MethodGet, s.console("console", path), nil, "Authorization", "Bearer "+operatorToken)
		require.NotContains(s, a.body, "<script>alert", path)
		require.NotContains(s, a.body, "<img src=x", path)
		if strings.Contains(a.header.Get("Content-Type"), "html") {
			require.Contains(s, a.header.Get("Content-Security-Policy"), "default-src 'none'", path)
			require.Contains(s, a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
			require.Equal(s, "nosniff", a.header.Get("X-Content-Type-Options"))
		}
	}
	q := url.QueryEscape(script)
	for _, path := range []string{
		"/", "/dead", "/realms?q=" + q, "/gaps?realm=" + q, "/audit?realm=" + q, "/dead?reason=" + q + "&entity=" + q, "/login?next=" + q, "/realms/" + url.PathEscape(script), "/nowhere/" + url.PathEscape(script), "/actions",
		"/connect/callback?error=" + q + "&state=" + q, "/disconnected?realmId=" + q,
	} {
		ask(path)
	}
	for seq := range 40 {
		ask(fmt.Sprint("/dead/", seq))
	}
}

// redirects: nobody is sent to another site behind the login.
func (s *stack) redirects() {
	for _, next := range []string{
		"https://evil.example", "//evil.example", `/\evil.example`, `\\evil.example`, "http:evil.example", "/%09/evil.example", "javascript:alert(1)", "///evil.example", "/%2f/evil.example",
		"https:evil.example", "\t//evil.example", "/.//evil.example/..//",
	} {
		a := s.send(s.client("127.0.0.1"), http.MethodPost, s.console("console", "/login"),
			strings.NewReader(url.Values{"token": {operatorToken}, "next": {next}}.Encode()), "Content-Type", "application/x-www-form-urlencoded")
		require.Equal(s, http.StatusSeeOther, a.status)
		target, err := url.Parse(a.header.Get("Location"))
		require.NoError(s, err)
		require.Empty(s, target.Host, next)
		require.Empty(s, target.Scheme, next)
		require.False(s, strings.HasPrefix(a.header.Get("Location"), "//") || strings.ContainsAny(a.header.Get("Location"), "\\\t"), next)
	}
}

// proxied are headers that a proxy adds; a client of this machine sends none.
func proxied() [][]string {
	return [][]string{
		{"X-Forwarded-For", "203.0.113.7"}, {"Forwarded", "for=203.0.113.7"}, {"X-Real-IP", "203.0.113.7"}, {"Via", "1.1 proxy"}, {"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "evil.example"},
	}
}

// openConsole: a console without a login, on this machine alone, that a proxy makes
// reachable, and names that a page makes lead to it.
func (s *stack) openConsole() {
	require.True(s, s.startConsole("open", nil))
	client := s.client("127.0.0.1")
	for _, header := range proxied() {
		a := s.send(client, http.MethodPost, s.console("open", "/api/v1/sinks/changes/pause"), nil, header...)
		require.GreaterOrEqual(s, a.status, 400, header)
		a = s.send(client, http.MethodGet, s.console("open", "/api/v1/realms"), nil, header...)
		require.GreaterOrEqual(s, a.status, 400, header)
	}
	for _, host := range []string{"evil.example", "127.0.0.1.nip.io", "0.0.0.0", "2130706433", "127.1", "localhost.evil.example", "[::ffff:203.0.113.7]"} {
		a := s.send(client, http.MethodGet, s.console("open", "/api/v1/realms"), nil, "Host", host)
		require.GreaterOrEqual(s, a.status, 400, host)
	}
	paused, err := s.store.PausedSinks(s.Context())
	require.NoError(s, err)
	require.Empty(s, paused)
	// On an address that others reach it does not start without a login.
	p := s.run("public", "ledgerfeed", []string{"console"}, map[string]string{"CONSOLE_LISTEN": "0.0.0.0:0"})
	require.Eventually(s, p.over, patience, 20*time.Millisecond)
	require.Equal(s, 2, p.cmd.ProcessState.ExitCode())
}
