package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
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
)

// oidcLogin is the login by OpenID Connect, with PKCE.
type oidcLogin struct {
	config   ConsoleConfig
	sessions *sessions
	recorder recorder

	mu       sync.Mutex // guards provider
	provider *oidc.Provider
}

// recorder is where logins are recorded.
type recorder interface {
	noteAs(c echo.Context, id identity, what, outcome string)
	refused(c echo.Context, what, why string)
}

func newOIDCLogin(c ConsoleConfig, s *sessions, r recorder) *oidcLogin {
	return &oidcLogin{config: c, sessions: s, recorder: r}
}

// open asks the issuer, once it answers: an issuer that is down keeps nobody from
// starting the console, nor from a login by token.
func (l *oidcLogin) open(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.provider == nil {
		// The provider keeps its context for later requests for keys.
		p, err := oidc.NewProvider(context.WithoutCancel(ctx), l.config.OIDCIssuer)
		if err != nil {
			return nil, nil, err
		}
		l.provider = p
	}
	return l.provider, &oauth2.Config{
		ClientID: l.config.OIDCClientID, ClientSecret: l.config.OIDCSecret.Reveal(), Endpoint: l.provider.Endpoint(),
		RedirectURL: strings.TrimSuffix(l.config.PublicURL, "/") + "/login/callback", Scopes: []string{oidc.ScopeOpenID, "email"},
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
	payload := state + "." + nonce + "." + verifier
	cookie := l.sessions.set(oidcCookie, payload+"."+l.sessions.sign(payload), oidcTime)
	cookie.SameSite = http.SameSiteLaxMode
	c.SetCookie(cookie)
	return c.Redirect(http.StatusSeeOther, oauth.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
}

var errOIDC = errors.New("the login does not fit the one that was begun")

func (l *oidcLogin) callback(c echo.Context) error {
	email, err := l.email(c)
	if err != nil {
		l.recorder.refused(c, "login", "it did not come to its end")
		return problem(http.StatusUnauthorized, "Not logged in", "The login did not come to its end. Begin it again at /login.").SetInternal(err)
	}
	id := identity{Who: email, Role: l.config.byEmail(email)}
	if id.Role == nobody {
		l.recorder.refused(c, "login of "+email, "in no list")
		return problem(http.StatusForbidden, "Not allowed", email+" is neither in console.oidc_operators nor in console.oidc_viewers.")
	}
	l.recorder.noteAs(c, id, "login", "done")
	c.SetCookie(l.sessions.set(oidcCookie, "", 0))
	c.SetCookie(l.sessions.cookie(id))
	// A redirect would still count as coming from the issuer, and the browser would not
	// send the session along; a page that goes on by itself does.
	return c.HTML(http.StatusOK, `<!doctype html><html lang="en"><title>Logged in</title><meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on</a></p></html>`)
}

// email is the verified address of who logged in.
func (l *oidcLogin) email(c echo.Context) (string, error) {
	cookie, err := c.Cookie(oidcCookie)
	if err != nil {
		return "", err
	}
	parts := strings.Split(cookie.Value, ".")
	if len(parts) != 4 || l.sessions.sign(strings.Join(parts[:3], ".")) != parts[3] || c.QueryParam("state") != parts[0] {
		return "", errOIDC
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), requestMax)
	defer cancel()
	provider, oauth, err := l.open(ctx)
	if err != nil {
		return "", err
	}
	token, err := oauth.Exchange(ctx, c.QueryParam("code"), oauth2.VerifierOption(parts[2]))
	if err != nil {
		return "", err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := provider.Verifier(&oidc.Config{ClientID: l.config.OIDCClientID}).Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := verified.Claims(&claims); err != nil {
		return "", err
	}
	if verified.Nonce != parts[1] || claims.Email == "" || !claims.Verified {
		return "", errOIDC
	}
	return strings.ToLower(claims.Email), nil
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
	case in(c.Operators):
		return operator
	case in(c.Viewers):
		return viewer
	}
	return nobody
}
