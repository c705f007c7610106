package qbo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// oauth returns an OAuth whose three endpoints are the handler.
func oauth(t *testing.T, handler http.HandlerFunc, change ...func(*qbo.OAuthOptions)) *qbo.OAuth {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	o := qbo.OAuthOptions{
		ClientID: "client", ClientSecret: "s e/cret", RedirectURL: "https://feed.example/callback",
		AuthorizeURL: server.URL + "/connect", TokenURL: server.URL + "/token", RevokeURL: server.URL + "/revoke",
		Now: func() time.Time { return noon },
	}
	for _, f := range change {
		f(&o)
	}
	a, err := qbo.NewOAuth(o)
	require.NoError(t, err)
	return a
}

// grants are the two calls that share the token endpoint.
var grants = []struct {
	name string
	form url.Values
	call func(context.Context, *qbo.OAuth) (qbo.Token, error)
}{
	{
		name: "exchange",
		form: url.Values{"grant_type": {"authorization_code"}, "code": {"the+code"}, "redirect_uri": {"https://feed.example/callback"}},
		call: func(ctx context.Context, a *qbo.OAuth) (qbo.Token, error) { return a.Exchange(ctx, "the+code", "") },
	},
	{
		name: "refresh",
		form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"the+code"}},
		call: func(ctx context.Context, a *qbo.OAuth) (qbo.Token, error) { return a.Refresh(ctx, "the+code") },
	},
}

func TestOAuth_GrantsAskAsIntuitDocuments(t *testing.T) {
	for _, grant := range grants {
		t.Run(grant.name, func(t *testing.T) {
			a := oauth(t, func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "/token", r.URL.Path)
				require.Equal(t, http.MethodPost, r.Method)
				require.Equal(t, "application/json", r.Header.Get("Accept"))
				require.Equal(t, "true", r.Header.Get("x-include-refresh-token-hard-expires-in"))
				id, password, ok := r.BasicAuth()
				require.True(t, ok)
				require.Equal(t, [2]string{"client", url.QueryEscape("s e/cret")}, [2]string{id, password})
				require.NoError(t, r.ParseForm())
				require.Equal(t, grant.form, r.PostForm)
				_, _ = w.Write(read(t, "oauth/oauth-jsclient_refreshResponse.json"))
			})
			token, err := grant.call(t.Context(), a)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(qbo.Token{
				Access: "sample_access_token", Refresh: "sample_refresh_token",
				AccessExpires: noon.Add(time.Hour), RefreshExpires: noon.Add(8_726_400 * time.Second),
			}, token))
			require.NotContains(t, fmt.Sprintf("%+v %#v", token, token), "sample_")
		})
	}
}

func TestOAuth_ReadsTheHardExpiryAndOddNumbers(t *testing.T) {
	a := oauth(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"token_type":"bearer","access_token":"a","refresh_token":"r","expires_in":"3600","x_refresh_token_expires_in":-1,"x_refresh_token_hard_expires_in":157680000,"id_token":{}}`))
	})
	token, err := a.Exchange(t.Context(), "code", "")
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(qbo.Token{
		Access: "a", Refresh: "r", AccessExpires: noon.Add(time.Hour), RefreshHardExpires: noon.Add(157_680_000 * time.Second),
	}, token))
}

func TestOAuth_MissingLifetimeDoesNotLoseTheTokens(t *testing.T) {
	for _, lifetime := range []string{"", `,"expires_in":null`, `,"expires_in":-1`, `,"expires_in":"soon"`, `,"expires_in":1e99`} {
		a := oauth(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"access_token":"a","refresh_token":"r"` + lifetime + `}`))
		})
		token, err := a.Refresh(t.Context(), "old")
		require.NoError(t, err)
		require.Equal(t, "r", token.Refresh.Reveal())
		require.Equal(t, noon.Add(time.Hour), token.AccessExpires)
	}
}

func TestOAuth_RefreshWithoutANewTokenKeepsTheOldOne(t *testing.T) {
	a := oauth(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"access_token":"a","expires_in":3600}`))
	})
	token, err := a.Refresh(t.Context(), "old")
	require.NoError(t, err)
	require.Equal(t, "old", token.Refresh.Reveal())
	_, err = a.Exchange(t.Context(), "code", "")
	require.ErrorIs(t, err, qbo.ErrMalformed, "a first token must have one")
}

func TestOAuth_Errors(t *testing.T) {
	for _, tt := range []struct {
		name      string
		status    int
		body      string
		grant     bool // is ErrInvalidGrant
		temporary bool
		text      string
	}{
		{name: "bare invalid_grant", status: 400, body: `{"error":"invalid_grant"}`, grant: true, text: "intuit answered 400: invalid_grant"},
		{name: "described", status: 400, body: string(read(t, "oauth/invalid_grant_described.json")), grant: true, text: "intuit answered 400: invalid_grant: Incorrect or invalid refresh token"},
		{name: "the other order", status: 400, body: `{"error_description":"Token invalid","error":"invalid_grant"}`, grant: true, text: "invalid_grant: Token invalid"},
		{name: "in an array", status: 400, body: `[{"error_description":"Incorrect Token type or clientID","error":"invalid_grant"}]`, grant: true, text: "invalid_grant: Incorrect Token type or clientID"},
		{name: "an empty array", status: 400, body: `[]`, temporary: true, text: "no OAuth error in the body"},
		{name: "repeats the token", status: 400, body: `{"error":"invalid_grant","error_description":"no such the+code here"}`, grant: true, text: "no such [REDACTED] here"},
		{name: "wrong client", status: 401, body: `{"error":"invalid_client"}`, text: "intuit answered 401: invalid_client"},
		{name: "a page", status: 400, body: "<html>the+code</html>", temporary: true, text: "no OAuth error in the body"},
		{name: "nothing", status: 503, temporary: true, text: "intuit answered 503"},
		{name: "throttled", status: 429, body: `{"error":"rate"}`, temporary: true, text: "intuit answered 429: rate"},
		{name: "a page with 200", status: 200, body: "<html>the+code</html>", temporary: true, text: "malformed answer"},
		{name: "no token with 200", status: 200, body: `{"expires_in":3600,"refresh_token":"secret-r"}`, temporary: true, text: "malformed answer"},
		{name: "tokens of a wrong type", status: 200, body: `{"access_token":{"secret-a":1},"refresh_token":"secret-r","expires_in":1}`, temporary: true, text: "malformed answer"},
		{name: "a redirect", status: 302, temporary: true, text: "intuit answered 302"},
	} {
		for _, grant := range grants {
			t.Run(grant.name+" "+tt.name, func(t *testing.T) {
				a := oauth(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(tt.status)
					_, _ = w.Write([]byte(tt.body))
				})
				token, err := grant.call(t.Context(), a)
				require.Error(t, err)
				require.Zero(t, token)
				require.Equal(t, tt.grant, errors.Is(err, qbo.ErrInvalidGrant))
				require.Equal(t, tt.temporary, qbo.Temporary(err))
				require.ErrorContains(t, err, tt.text)
				for _, hidden := range []string{"the+code", "secret-a", "secret-r", "s e/cret"} {
					require.NotContains(t, err.Error(), hidden)
				}
			})
		}
	}
}

func TestOAuth_GrantOutlivesItsCaller(t *testing.T) {
	for _, grant := range grants {
		t.Run(grant.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			a := oauth(t, func(w http.ResponseWriter, _ *http.Request) {
				cancel() // the service is told to stop while Intuit makes the new token
				_, _ = w.Write(read(t, "oauth/oauth-jsclient_refreshResponse.json"))
			})
			token, err := grant.call(ctx, a)
			require.NoError(t, err, "the answer holds the only valid refresh token")
			require.Equal(t, secret.String("sample_refresh_token"), token.Refresh)

			_, err = grant.call(ctx, a)
			require.ErrorIs(t, err, context.Canceled, "but nothing begins after the end")
		})
	}
}

func TestOAuth_GrantHasADeadline(t *testing.T) {
	gone := make(chan struct{})
	a := oauth(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(gone)
	}, func(o *qbo.OAuthOptions) { o.Timeout = 20 * time.Millisecond })
	_, err := a.Refresh(t.Context(), "r")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, qbo.Temporary(err))
	<-gone
}

func TestOAuth_Revoke(t *testing.T) {
	status := http.StatusOK
	a := oauth(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/revoke", r.URL.Path)
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		_, _, ok := r.BasicAuth()
		require.True(t, ok)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.JSONEq(t, `{"token":"the-\"token\""}`, string(body))
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"the-\"token\" is unknown"}`))
	})
	require.NoError(t, a.Revoke(t.Context(), `the-"token"`))
	status = http.StatusBadRequest
	err := a.Revoke(t.Context(), `the-"token"`)
	require.ErrorContains(t, err, "revoke token: intuit answered 400: invalid_request: [REDACTED] is unknown")
	require.False(t, qbo.Temporary(err))
}

func TestOAuth_AuthorizeURL(t *testing.T) {
	a, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "c d", ClientSecret: "s", RedirectURL: "https://feed.example/cb?x=1"})
	require.NoError(t, err)
	u, err := url.Parse(a.AuthorizeURL("st&te", ""))
	require.NoError(t, err)
	require.Equal(t, "https://appcenter.intuit.com/connect/oauth2", u.Scheme+"://"+u.Host+u.Path)
	require.Equal(t, url.Values{
		"client_id": {"c d"}, "response_type": {"code"}, "scope": {"com.intuit.quickbooks.accounting"},
		"redirect_uri": {"https://feed.example/cb?x=1"}, "state": {"st&te"},
	}, u.Query())
}

// The pair is that of RFC 7636, appendix B.
func TestOAuth_PKCE(t *testing.T) {
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	a := oauth(t, func(w http.ResponseWriter, r *http.Request) {
		require.NoError(t, r.ParseForm())
		require.Equal(t, verifier, r.PostForm.Get("code_verifier"))
		_, _ = w.Write(read(t, "oauth/oauth-jsclient_refreshResponse.json"))
	})
	u, err := url.Parse(a.AuthorizeURL("s", verifier))
	require.NoError(t, err)
	require.Equal(t, "S256", u.Query().Get("code_challenge_method"))
	require.Equal(t, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", u.Query().Get("code_challenge"))
	require.NotContains(t, u.String(), verifier)
	_, err = a.Exchange(t.Context(), "code", verifier)
	require.NoError(t, err)
	require.Equal(t, "https://feed.example/callback", a.RedirectURL())
}

func TestNewOAuth_RefusesBadOptions(t *testing.T) {
	good := qbo.OAuthOptions{ClientID: "c", ClientSecret: "s"}
	for name, change := range map[string]func(*qbo.OAuthOptions){
		"ClientID":     func(o *qbo.OAuthOptions) { o.ClientID = "" },
		"ClientSecret": func(o *qbo.OAuthOptions) { o.ClientSecret = "" },
		"TokenURL":     func(o *qbo.OAuthOptions) { o.TokenURL = "/token" },
		"RedirectURL":  func(o *qbo.OAuthOptions) { o.RedirectURL = "ftp://x" },
		"Timeout":      func(o *qbo.OAuthOptions) { o.Timeout = -1 },
	} {
		o := good
		change(&o)
		_, err := qbo.NewOAuth(o)
		require.ErrorContains(t, err, name)
	}
}

// The keys of the app are replaced while it runs.
func TestOAuth_AsksWithOtherKeys(t *testing.T) {
	var asked []string
	a := oauth(t, func(w http.ResponseWriter, r *http.Request) {
		id, password, _ := r.BasicAuth()
		asked = append(asked, id+" "+password)
		_, _ = w.Write(read(t, "oauth/oauth-jsclient_refreshResponse.json"))
	})
	a.SetApp("other", "hush")
	_, err := a.Refresh(t.Context(), "token")
	require.NoError(t, err)
	require.NoError(t, a.Revoke(t.Context(), "token"))
	require.Equal(t, []string{"other hush", "other hush"}, asked)
	require.Equal(t, "other", a.ClientID())
	require.Contains(t, a.AuthorizeURL("state", ""), "client_id=other")
}
