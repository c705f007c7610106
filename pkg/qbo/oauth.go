package qbo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Intuit's OAuth endpoints and scope, by its discovery document.
const (
	AuthorizeURL = "https://appcenter.intuit.com/connect/oauth2"
	TokenURL     = "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer"
	RevokeURL    = "https://developer.api.intuit.com/v2/oauth2/tokens/revoke"
	Scope        = "com.intuit.quickbooks.accounting"
)

// hardExpiryHeader asks for x_refresh_token_hard_expires_in in the answer
// (Intuit's blog of 2025-11-12).
const hardExpiryHeader = "x-include-refresh-token-hard-expires-in"

const maxOAuthBody = 1 << 20

// OAuthOptions are what an OAuth works with. The URLs are Intuit's if empty.
type OAuthOptions struct {
	ClientID     string
	ClientSecret secret.String
	AuthorizeURL string
	TokenURL     string
	RevokeURL    string
	// RedirectURL must be one of those registered in the portal.
	RedirectURL string
	HTTP        *http.Client
	Timeout     time.Duration // of one request; 30 s if 0, at most 120 s
	Now         func() time.Time
}

// OAuth gets and gives back tokens. It keeps none and is safe for concurrent
// use, but two refreshes of one realm at a time are not: Intuit may void the
// token the second one presents. Whoever stores the tokens has to let only one
// through.
type OAuth struct {
	options OAuthOptions // ClientID and ClientSecret are in app
	app     atomic.Pointer[app]
	http    *http.Client
}

// app is who asks.
type app struct {
	id     string
	secret secret.String
}

// NewOAuth makes an OAuth.
func NewOAuth(o OAuthOptions) (*OAuth, error) {
	if o.ClientID == "" || o.ClientSecret == "" {
		return nil, errors.New("qbo: ClientID and ClientSecret are required")
	}
	if o.Timeout < 0 || o.Timeout > maxTimeout {
		return nil, fmt.Errorf("qbo: Timeout %s is not between 0 and %s", o.Timeout, maxTimeout)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, u := range []struct {
		field    string
		value    *string
		fallback string
	}{
		{"AuthorizeURL", &o.AuthorizeURL, AuthorizeURL},
		{"TokenURL", &o.TokenURL, TokenURL},
		{"RevokeURL", &o.RevokeURL, RevokeURL},
		{"RedirectURL", &o.RedirectURL, ""},
	} {
		if err := validURL(u.field, *u.value); err != nil {
			return nil, err
		}
		if *u.value == "" {
			*u.value = u.fallback
		}
	}
	a := &OAuth{options: o, http: httpClient(o.HTTP)}
	a.app.Store(&app{o.ClientID, o.ClientSecret})
	return a, nil
}

// AuthorizeURL is where to send a person who connects a company. Intuit comes
// back to the redirect URL with code, realmId and this state, which must be
// checked against the one that was sent. With a verifier, 43 to 128 letters,
// digits, - or _, the code is bound to it (PKCE, RFC 7636, method S256): give it
// to Exchange. "" is without; Intuit's discovery document does not offer PKCE.
func (o *OAuth) AuthorizeURL(state string, verifier secret.String) string {
	values := url.Values{
		"client_id": {o.ClientID()}, "response_type": {"code"}, "scope": {Scope},
		"redirect_uri": {o.options.RedirectURL}, "state": {state},
	}
	if verifier != "" {
		sum := sha256.Sum256([]byte(verifier.Reveal()))
		values.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
		values.Set("code_challenge_method", "S256")
	}
	separator := "?"
	if strings.Contains(o.options.AuthorizeURL, "?") {
		separator = "&"
	}
	return o.options.AuthorizeURL + separator + values.Encode()
}

// ClientID is the app's, to which the tokens belong.
func (o *OAuth) ClientID() string { return o.app.Load().id }

// SetApp replaces the id and secret that the app asks with, from the next request on.
func (o *OAuth) SetApp(id string, clientSecret secret.String) { o.app.Store(&app{id, clientSecret}) }

// RedirectURL is where Intuit sends a person back to; "" if none was set.
func (o *OAuth) RedirectURL() string { return o.options.RedirectURL }

// Exchange turns the code of a redirect into the first token of a realm;
// verifier is AuthorizeURL's. A code works once and for minutes: a used, late or
// foreign one is ErrInvalidGrant. Like Refresh, it runs to its end once begun.
func (o *OAuth) Exchange(ctx context.Context, code string, verifier secret.String) (Token, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {o.options.RedirectURL}}
	if verifier != "" {
		form.Set("code_verifier", verifier.Reveal())
	}
	token, err := o.grant(ctx, form, secret.String(code), "")
	if err != nil {
		return Token{}, fmt.Errorf("exchange code: %w", err)
	}
	return token, nil
}

// Refresh trades a refresh token for a new access token and the next refresh
// token, which about once a day is another one and voids the one before. Store
// the answer at once, whatever else happens: for the same reason Refresh
// runs to its end, bounded by the timeout, even if ctx is cancelled after it has
// begun. A refused token is ErrInvalidGrant.
func (o *OAuth) Refresh(ctx context.Context, refresh secret.String) (Token, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()}}
	token, err := o.grant(ctx, form, refresh, refresh)
	if err != nil {
		return Token{}, fmt.Errorf("refresh token: %w", err)
	}
	return token, nil
}

// Revoke ends the connection a refresh or access token belongs to. A 400 does not
// prove that the connection has ended: Intuit answers it to a malformed request, an
// unknown token and a revoked one alike.
func (o *OAuth) Revoke(ctx context.Context, token secret.String) error {
	ctx, cancel := context.WithTimeout(ctx, o.options.Timeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"token": token.Reveal()})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	if _, err := o.post(ctx, o.options.RevokeURL, "application/json", string(body), token); err != nil {
		var answered *OAuthError
		if errors.As(err, &answered) {
			answered.revoke = true
		}
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// grant asks the token endpoint. old is the refresh token that stays if the
// answer has none (RFC 6749, section 6).
//
// It is written out, not x/oauth2's: that keeps no room for the header and the
// two lifetimes of Intuit's, and its errors quote the answer.
func (o *OAuth) grant(ctx context.Context, form url.Values, sent, old secret.String) (Token, error) {
	if err := ctx.Err(); err != nil {
		return Token{}, err
	}
	// From here on the answer may hold the only valid refresh token, and nobody
	// could ask for it again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.options.Timeout)
	defer cancel()
	start := o.options.Now()
	body, err := o.post(ctx, o.options.TokenURL, "application/x-www-form-urlencoded", form.Encode(), sent)
	if err != nil {
		return Token{}, err
	}
	var answer tokenAnswer
	if err := json.Unmarshal(trim(body), &answer); err != nil && !isTypeError(err) {
		return Token{}, ErrMalformed // the decoder's error could quote the body
	}
	if answer.Refresh == "" {
		answer.Refresh = old
	}
	return answer.token(start)
}

// post sends a request of the app's own; sent is the secret in it, which no
// error may repeat.
func (o *OAuth) post(ctx context.Context, target, contentType, body string, sent secret.String) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("build request")
	}
	asking := o.app.Load()
	req.SetBasicAuth(url.QueryEscape(asking.id), url.QueryEscape(asking.secret.Reveal()))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "ledgerfeed")
	req.Header.Set(hardExpiryHeader, "true")
	res, err := o.http.Do(req)
	if err != nil {
		return nil, network(err)
	}
	defer res.Body.Close()
	answer, err := readBody(res.Body, maxOAuthBody)
	if err != nil {
		return nil, err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, decodeOAuthError(res.StatusCode, res.Header, answer, sent)
	}
	return answer, nil
}
