package qbosim_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

type tokenAnswer struct {
	AccessToken    string `json:"access_token"`
	RefreshToken   string `json:"refresh_token"`
	TokenType      string `json:"token_type"`
	ExpiresIn      int    `json:"expires_in"`
	RefreshExpires int    `json:"x_refresh_token_expires_in"`
	HardExpires    int    `json:"x_refresh_token_hard_expires_in"`
	Error          string `json:"error"`

	status int
}

func (b *bundle) bearer(form url.Values) tokenAnswer {
	b.Helper()
	req := b.request(http.MethodPost, "/oauth2/v1/tokens/bearer", form.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Include-Refresh-Token-Hard-Expires-In", "true")
	req.SetBasicAuth("client", "secret")
	return b.tokens(req)
}

func (b *bundle) tokens(req *http.Request) tokenAnswer {
	b.Helper()
	a := b.do(req)
	got := tokenAnswer{status: a.Status}
	require.NoError(b, json.Unmarshal(a.Body, &got), "%s", a.Body)
	return got
}

func (b *bundle) exchange(code string) tokenAnswer {
	b.Helper()
	return b.bearer(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://app.example/callback"}})
}

func (b *bundle) refresh(token string) tokenAnswer {
	b.Helper()
	return b.bearer(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (b *bundle) statusWith(access string) int {
	b.Helper()
	b.token = access
	return b.get(cdcPath("Bill", b.Now().Format(time.DateOnly))).Status
}

func authorizeURL(edit map[string]string) string {
	q := url.Values{
		"client_id": {"client"}, "redirect_uri": {"https://app.example/callback"}, "response_type": {"code"},
		"scope": {"com.intuit.quickbooks.accounting openid"}, "state": {"s1"},
	}
	for key, value := range edit {
		q.Set(key, value)
	}
	return "/connect/oauth2?" + q.Encode()
}

func TestAuthorize_RedirectsWithCodeStateAndRealm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.AddRealm(other)
	a := b.get(authorizeURL(nil))
	require.Equal(t, http.StatusFound, a.Status, "%s", a.Body)
	back, err := url.Parse(a.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "app.example/callback", back.Host+back.Path)
	require.Equal(t, "s1", back.Query().Get("state"))
	require.Equal(t, other, back.Query().Get("realmId"), "the company that is not connected yet")
	got := b.exchange(back.Query().Get("code"))
	require.Equal(t, 200, got.status)
	require.Equal(t, "bearer", got.TokenType)
	require.Equal(t, 3600, got.ExpiresIn)
	require.Equal(t, 101*24*3600, got.RefreshExpires)
	require.Equal(t, 5*365*24*3600, got.HardExpires)

	require.Contains(t, b.get(authorizeURL(map[string]string{"realmId": realm})).Header.Get("Location"), "realmId="+realm)
}

func TestAuthorize_RefusesAnAppItDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tests := []struct {
		key, value string
		want       int
	}{
		{"client_id", "another", 400},
		{"redirect_uri", "https://evil.example/", 400},
		{"redirect_uri", "callback", 400},
		{"response_type", "token", 400},
		{"scope", "openid", 400},
		{"state", "", 400},
		{"realmId", "1", 404},
	}
	for _, tt := range tests {
		t.Run(tt.key+" "+tt.value, func(t *testing.T) {
			require.Equal(t, tt.want, b.get(authorizeURL(map[string]string{tt.key: tt.value})).Status)
		})
	}
}

func TestExchange_TakesACodeOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.Authorize(realm)
	require.Equal(t, 200, b.exchange(code).status)
	again := b.exchange(code)
	require.Equal(t, 400, again.status)
	require.Equal(t, "invalid_grant", again.Error)

	late := b.Authorize(realm)
	b.Advance(10 * time.Minute)
	require.Equal(t, "invalid_grant", b.exchange(late).Error)
	require.Equal(t, "invalid_grant", b.exchange("made up").Error)
	require.Empty(t, b.Authorize("unknown"))

	back, err := url.Parse(b.get(authorizeURL(nil)).Header.Get("Location"))
	require.NoError(t, err)
	elsewhere := b.bearer(url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {"https://other.example"}})
	require.Equal(t, "invalid_grant", elsewhere.Error)
}

func TestBearer_ChecksTheClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {b.Authorize(realm)}}.Encode()
	tests := []struct {
		name string
		auth func(*http.Request)
		want int
	}{
		{"no auth", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"wrong secret", func(r *http.Request) { r.SetBasicAuth("client", "guess") }, 401},
		{"wrong client", func(r *http.Request) { r.SetBasicAuth("other", "secret") }, 401},
		{"right", func(r *http.Request) { r.SetBasicAuth("client", "secret") }, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := b.request(http.MethodPost, "/oauth2/v1/tokens/bearer", form)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			tt.auth(req)
			got := b.tokens(req)
			require.Equal(t, tt.want, got.status)
			require.Equal(t, tt.want == 401, got.Error == "invalid_client")
			require.Zero(t, got.HardExpires, "only on request")
		})
	}
	require.Equal(t, "unsupported_grant_type", b.bearer(url.Values{"grant_type": {"password"}}).Error)
}

func TestRefresh_RotatesAndRefusesTheOldToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.exchange(b.Authorize(realm))
	second := b.refresh(first.RefreshToken)
	require.Equal(t, 200, second.status)
	require.NotEqual(t, first.RefreshToken, second.RefreshToken)
	require.NotEqual(t, first.AccessToken, second.AccessToken)
	require.Equal(t, 200, b.statusWith(first.AccessToken), "an access token lives its hour")
	require.Equal(t, 200, b.statusWith(second.AccessToken))

	replayed := b.refresh(first.RefreshToken)
	require.Equal(t, 400, replayed.status)
	require.Equal(t, "invalid_grant", replayed.Error)
	require.Equal(t, "invalid_grant", b.refresh("made up").Error)
	require.Equal(t, 200, b.refresh(second.RefreshToken).status, "a replay leaves the newest one good")
	require.Equal(t, 2, b.Stats().Refreshes)
	require.Equal(t, 1, b.Stats().RefreshReplays)
}

func TestRefresh_KeepsTheTokenForADayLikeIntuit(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.RotateEvery = 24 * time.Hour })
	first := b.exchange(b.Authorize(realm)).RefreshToken
	b.Advance(23 * time.Hour)
	require.Equal(t, first, b.refresh(first).RefreshToken)
	b.Advance(time.Hour)
	second := b.refresh(first).RefreshToken
	require.NotEqual(t, first, second)
	require.Equal(t, second, b.refresh(second).RefreshToken)
	require.Equal(t, "invalid_grant", b.refresh(first).Error)
}

func TestRefresh_DiesAfter101DaysUnusedAndFiveYears(t *testing.T) {
	t.Parallel()
	b := setup(t)
	idle := b.exchange(b.Authorize(realm)).RefreshToken
	b.Advance(101 * 24 * time.Hour)
	require.Equal(t, "invalid_grant", b.refresh(idle).Error)

	token, day := b.exchange(b.Authorize(realm)).RefreshToken, 0
	for {
		got := b.refresh(token)
		if got.status != 200 {
			break
		}
		require.LessOrEqual(t, got.RefreshExpires, got.HardExpires)
		token, day = got.RefreshToken, day+100
		b.Advance(100 * 24 * time.Hour)
	}
	require.Equal(t, 1900, day, "the first refresh after five years")
}

func TestAccess_IsCheckedOnEveryCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.AddRealm(other)
	foreign, _ := b.Connect(other)
	good := b.token
	path := cdcPath("Bill", "2026-11-20")

	b.token = foreign.Reveal()
	a := b.get(path)
	require.Equal(t, 403, a.Status)
	require.Equal(t, "3100", a.fault(t).Code)

	b.token = good
	a = b.get("/v3/company/1/cdc?entities=Bill&changedSince=2026-11-20")
	require.Equal(t, 403, a.Status, "a company that does not exist")

	b.Advance(time.Hour)
	a = b.get(path)
	require.Equal(t, 401, a.Status)
	require.Equal(t, `Bearer realm="Intuit", error="invalid_token"`, a.Header.Get("Www-Authenticate"))
	require.Equal(t, "lower", a.shape(t))
	require.Equal(t, oneFault{"3200", "message=AuthenticationFailed; errorCode=003200; statusCode=401", "Token expired: " + good}, a.fault(t))

	b.token = "made up"
	require.Equal(t, 401, b.get(path).Status)
	req := b.request(http.MethodGet, path, "")
	req.Header.Del("Authorization")
	require.Equal(t, 401, b.do(req).Status)
}

func TestExpireAccess_LeavesTheRefreshTokenGood(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.exchange(b.Authorize(realm))
	b.ExpireAccess(realm)
	require.Equal(t, 401, b.statusWith(got.AccessToken))
	require.Equal(t, 200, b.statusWith(b.refresh(got.RefreshToken).AccessToken))
	require.Equal(t, map[string]int{realm: 1}, b.Stats().RefreshesByRealm)
}

func TestRevoke_EndsTheConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	revoke := func(token string) int {
		body, err := json.Marshal(map[string]string{"token": token})
		require.NoError(t, err)
		req := b.request(http.MethodPost, "/v2/oauth2/tokens/revoke", string(body))
		req.SetBasicAuth("client", "secret")
		return b.do(req).Status
	}
	tests := []struct {
		name string
		end  func(tokenAnswer)
	}{
		{"by the owner", func(tokenAnswer) { b.RevokeRealm(realm) }},
		{"by refresh token", func(a tokenAnswer) { require.Equal(t, 200, revoke(a.RefreshToken)) }},
		{"by access token", func(a tokenAnswer) { require.Equal(t, 200, revoke(a.AccessToken)) }},
		{"by a second consent", func(tokenAnswer) { b.exchange(b.Authorize(realm)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := b.exchange(b.Authorize(realm))
			tt.end(got)
			require.Equal(t, "invalid_grant", b.refresh(got.RefreshToken).Error)
			if tt.name != "by a second consent" {
				require.Equal(t, 401, b.statusWith(got.AccessToken))
			}
			require.Equal(t, 200, b.statusWith(b.exchange(b.Authorize(realm)).AccessToken), "until the next consent")
		})
	}
	require.Equal(t, 400, revoke("made up"))
	require.Equal(t, 1, b.Stats().RefreshReplays, "only the second consent replaced a token")
}

// Where consents are kept apart, each has tokens of its own, also after a restart.
func TestRevoke_EndsOneOfSeveralConsents(t *testing.T) {
	t.Parallel()
	journal := filepath.Join(t.TempDir(), "journal")
	edit := func(o *qbosim.Options) { o.SeparateConsents, o.Journal = true, journal }
	b := setup(t, edit)
	revoke := func(token string) int {
		req := b.request(http.MethodPost, "/v2/oauth2/tokens/revoke", `{"token":"`+token+`"}`)
		req.SetBasicAuth("client", "secret")
		return b.do(req).Status
	}
	first, second, third := b.exchange(b.Authorize(realm)), b.exchange(b.Authorize(realm)), b.exchange(b.Authorize(realm))
	first = b.refresh(first.RefreshToken)
	require.Empty(t, first.Error)
	require.Equal(t, 200, revoke(second.RefreshToken))
	require.Equal(t, 200, revoke(third.AccessToken))
	for _, ended := range []tokenAnswer{second, third} {
		require.Equal(t, "invalid_grant", b.refresh(ended.RefreshToken).Error)
		require.Equal(t, 401, b.statusWith(ended.AccessToken))
		require.Equal(t, 400, revoke(ended.RefreshToken))
	}
	require.NoError(t, b.Close())

	b = setup(t, edit)
	require.Equal(t, 200, b.statusWith(first.AccessToken))
	require.Equal(t, "invalid_grant", b.refresh(second.RefreshToken).Error)
	first = b.refresh(first.RefreshToken)
	require.Equal(t, 200, revoke(first.AccessToken))
	require.Equal(t, "invalid_grant", b.refresh(first.RefreshToken).Error)
}

// challenge is the one of RFC 7636, appendix B, and verifier what it is made of.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// consent follows the authorize endpoint and returns the query of the redirect.
func (b *bundle) consent(edit map[string]string) url.Values {
	b.Helper()
	a := b.get(authorizeURL(edit))
	require.Equal(b, http.StatusFound, a.Status, "%s", a.Body)
	back, err := url.Parse(a.Header.Get("Location"))
	require.NoError(b, err)
	return back.Query()
}

func TestExchange_ChecksTheProofKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pkce := map[string]string{"code_challenge": challenge, "code_challenge_method": "S256"}
	tests := []struct {
		name     string
		consent  map[string]string
		verifier string
		want     int
	}{
		{"right", pkce, verifier, 200},
		{"wrong", pkce, verifier[1:] + "x", 400},
		{"missing", pkce, "", 400},
		{"the challenge itself", pkce, challenge, 400},
		{"taken away on the way", nil, verifier, 400},
		{"none", nil, "", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{"grant_type": {"authorization_code"}, "code": {b.consent(tt.consent).Get("code")}, "redirect_uri": {"https://app.example/callback"}}
			if tt.verifier != "" {
				form.Set("code_verifier", tt.verifier)
			}
			got := b.bearer(form)
			require.Equal(t, tt.want, got.status)
			require.Equal(t, tt.want == 400, got.Error == "invalid_grant")
		})
	}
}

func TestAuthorize_ProofKeyIsS256OrNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, edit := range []map[string]string{
		{"code_challenge": challenge},
		{"code_challenge": challenge, "code_challenge_method": "plain"},
		{"code_challenge": "short", "code_challenge_method": "S256"},
		{"code_challenge_method": "S256"},
	} {
		require.Equal(t, 400, b.get(authorizeURL(edit)).Status, "%v", edit)
	}
	strict := setup(t, func(o *qbosim.Options) { o.RequirePKCE = true })
	require.Equal(t, 400, strict.get(authorizeURL(nil)).Status)
	strict.consent(map[string]string{"code_challenge": challenge, "code_challenge_method": "S256"})
}

func TestAuthorize_AsksTheOwner(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.AskConsent = true })
	b.AddRealm(other)
	pkce := map[string]string{"code_challenge": challenge, "code_challenge_method": "S256"}
	a := b.get(authorizeURL(pkce))
	require.Equal(t, http.StatusOK, a.Status)
	page := string(a.Body)
	require.Contains(t, page, `value="`+other+`" checked`)
	require.Contains(t, page, `value="`+realm+`"`)
	require.Contains(t, page, `name="state" value="s1"`)
	require.Contains(t, page, `name="code_challenge" value="`+challenge+`"`)

	pkce["decision"], pkce["realmId"] = "deny", realm
	require.Equal(t, url.Values{"error": {"access_denied"}, "state": {"s1"}}, b.consent(pkce))
	pkce["decision"] = "allow"
	got := b.consent(pkce)
	require.Equal(t, realm, got.Get("realmId"))
	require.NotEmpty(t, got.Get("code"))
}

func TestRead_CompanyInfoIsTheCompanysOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.get("/v3/company/" + realm + "/companyinfo/" + realm)
	require.Equal(t, http.StatusOK, a.Status)
	require.Contains(t, string(a.Body), `"CompanyName":"Simulated company `+realm+`"`)
	require.Equal(t, http.StatusForbidden, b.get("/v3/company/"+other+"/companyinfo/"+other).Status)
}
