package console

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/labstack/echo/v4"
	"golang.org/x/oauth2"
)

const (
	oidcCookie = "lf_oidc"
	oidcTime   = 10 * time.Minute
	// issuerMax bounds a question to the issuer: others wait for its answer.
	issuerMax = 10 * time.Second
)

// oidcLogin is the login by OpenID Connect, with PKCE.
type oidcLogin struct {
	server   *Server
	config   ConsoleConfig
	sessions *sessions

	mu       sync.Mutex // guards provider
	provider *oidc.Provider
}

func newOIDCLogin(s *Server) *oidcLogin {
	return &oidcLogin{server: s, config: s.o.Config, sessions: s.sessions}
}

// open asks the issuer, once it answers: an issuer that is down keeps nobody from
// starting the console, nor from a login by token.
func (l *oidcLogin) open(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.provider == nil {
		// The provider keeps its context for later requests for keys.
		ctx = oidc.ClientContext(context.WithoutCancel(ctx), &http.Client{Timeout: issuerMax})
		p, err := oidc.NewProvider(ctx, l.config.OIDCIssuer)
		if err != nil {
			return nil, nil, err
		}
		l.provider = p
	}
	return l.provider, &oauth2.Config{
		ClientID: l.config.OIDCClientID, ClientSecret: l.config.OIDCSecret.Reveal(), Endpoint: l.provider.Endpoint(),
		RedirectURL: strings.TrimSuffix(l.config.PublicURL, "/") + "/login/callback", Scopes: append([]string{oidc.ScopeOpenID}, l.config.Scopes...),
	}, nil
}

// begin sends the browser to the issuer. The cookie is Lax, since it must come back
// with a redirect from there.
func (l *oidcLogin) begin(c echo.Context) error {
	_, oauth, err := l.open(c.Request().Context())
	if err != nil {
		return problem(http.StatusBadGateway, "No login there", "The issuer of console.oidc_issuer does not answer. Try again in a while, or log in with a token.").SetInternal(err)
	}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	payload := strings.Join([]string{state, nonce, verifier, strconv.FormatInt(l.sessions.now().Add(oidcTime).Unix(), 10)}, ".")
	cookie := l.sessions.set(oidcCookie, payload+"."+l.sign(payload), oidcTime)
	cookie.SameSite = http.SameSiteLaxMode
	c.SetCookie(cookie)
	return c.Redirect(http.StatusSeeOther, oauth.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
}

var (
	errOIDC       = errors.New("the login does not match the one that was started")
	errUnverified = errors.New("the issuer has not verified the e-mail address; see console.oidc_trust_email and console.oidc_operator_groups")
)

func (l *oidcLogin) sign(payload string) string {
	return encode(mac(l.sessions.keys.flow, payload))
}

func (l *oidcLogin) callback(c echo.Context) error {
	r, err := l.person(c)
	if err != nil {
		if limited := l.server.wrongCredential(c, byOIDC, err.Error()); limited != nil {
			return limited
		}
		return problem(http.StatusUnauthorized, "Not logged in", "The login did not come to its end. Begin it again at /login.").SetInternal(err)
	}
	role := l.sessions.roleOf(r)
	if role == nobody {
		l.server.recordLogin(c, loginEvent{Outcome: loginRefused, Method: byOIDC, Who: r.Who, Reason: "no role"})
		return problem(http.StatusForbidden, "Not allowed", r.Who+" is neither in console.oidc_operators nor in console.oidc_viewers, and in none of the groups that are.")
	}
	c.SetCookie(l.sessions.set(oidcCookie, "", 0))
	if err := l.server.begin(c, byOIDC, role, r); err != nil {
		return err
	}
	// A redirect would still count as coming from the issuer, and the browser would not
	// send the session along; a page that goes on by itself does.
	return c.HTML(http.StatusOK, `<!doctype html><html lang="en"><title>Logged in</title><meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on</a></p></html>`)
}

// flow is a login under way, as the cookie of its browser has it.
type flow struct{ nonce, verifier string }

// flow is the login that the browser of the request began, if state is of it.
func (l *oidcLogin) flow(c echo.Context) (flow, error) {
	cookie, err := c.Cookie(l.sessions.cookieName(oidcCookie))
	if err != nil {
		return flow{}, err
	}
	payload, signature := cutLast(cookie.Value, ".")
	if !hmac.Equal([]byte(signature), []byte(l.sign(payload))) {
		return flow{}, errOIDC
	}
	parts := strings.Split(payload, ".")
	if len(parts) != 4 || subtle.ConstantTimeCompare([]byte(c.QueryParam("state")), []byte(parts[0])) != 1 {
		return flow{}, errOIDC
	}
	if end, err := strconv.ParseInt(parts[3], 10, 64); err != nil || l.sessions.now().Unix() >= end {
		return flow{}, errOIDC
	}
	return flow{nonce: parts[1], verifier: parts[2]}, nil
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+len(sep):]
}

// person is who logged in, by the ID token of the issuer.
func (l *oidcLogin) person(c echo.Context) (record, error) {
	begun, err := l.flow(c)
	if err != nil {
		return record{}, err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), requestMax)
	defer cancel()
	provider, oauth, err := l.open(ctx)
	if err != nil {
		return record{}, err
	}
	token, err := oauth.Exchange(ctx, c.QueryParam("code"), oauth2.VerifierOption(begun.verifier))
	if err != nil {
		return record{}, err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := provider.Verifier(&oidc.Config{ClientID: l.config.OIDCClientID}).Verify(ctx, raw)
	if err != nil {
		return record{}, err
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return record{}, err
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(begun.nonce)) != 1 {
		return record{}, errOIDC
	}
	return l.config.personOf(claims, verified.Subject)
}

// personOf reads the claims: an address that is not verified is nobody's.
func (c ConsoleConfig) personOf(claims map[string]any, subject string) (record, error) {
	r := record{Who: "subject " + subject, Issuer: c.OIDCIssuer, Email: c.emailOf(claims), Groups: groupsOf(claims, c.GroupsClaim)}
	switch {
	case r.Email != "":
		r.Who = r.Email
	case len(c.OperatorGroups)+len(c.ViewerGroups) == 0:
		return record{}, errUnverified
	}
	return r, nil
}

// emailOf is the address of the claims if the issuer says that it is verified, or says
// nothing of it and is trusted to know. Some issuers send the word as text.
func (c ConsoleConfig) emailOf(claims map[string]any) string {
	email, _ := claims["email"].(string)
	said, is := claims["email_verified"]
	if said == true || said == "true" || !is && c.TrustEmail {
		return strings.ToLower(email)
	}
	return ""
}

// groupsOf reads a claim with a list of groups, or with one. Its name may be a path.
func groupsOf(claims map[string]any, name string) (groups []string) {
	value, ok := claims[name]
	for !ok {
		outer, inner, more := strings.Cut(name, ".")
		if claims, ok = claims[outer].(map[string]any); !more || !ok {
			return nil
		}
		name = inner
		value, ok = claims[name]
	}
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		for _, v := range value {
			if group, ok := v.(string); ok {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

// byGroups is what a member of the groups may do.
func (c ConsoleConfig) byGroups(groups []string) role {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(entry string) bool { return slices.Contains(groups, strings.TrimSpace(entry)) })
	}
	switch {
	case in(c.OperatorGroups):
		return operator
	case in(c.ViewerGroups):
		return viewer
	}
	return nobody
}

// byEmail is what an address may do.
func (c ConsoleConfig) byEmail(email string) role {
	in := func(list []string) bool {
		return slices.ContainsFunc(list, func(entry string) bool {
			entry = strings.ToLower(strings.TrimSpace(entry))
			return entry == email || strings.HasPrefix(entry, "@") && strings.HasSuffix(email, entry)
		})
	}
	switch {
	case email == "":
	case in(c.Operators):
		return operator
	case in(c.Viewers):
		return viewer
	}
	return nobody
}
