package console

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// ConsoleConfig is what an operator sets of the console.
type ConsoleConfig struct {
	Listen       string        `koanf:"listen" doc:"Address of the console. On one that other machines reach, console.token or OpenID Connect is needed; put TLS in front of it."`
	Token        secret.String `koanf:"token" doc:"Token that operators log in with, at least 16 characters; the API takes it as a bearer token."`
	ViewerToken  secret.String `koanf:"viewer_token" doc:"Token that viewers log in with, who change nothing; empty for none."`
	PublicURL    string        `koanf:"public_url" doc:"Address of the console as browsers reach it (https://console.example.com); needed for OpenID Connect and behind a proxy."`
	App          string        `koanf:"app" doc:"Name of the Intuit app that companies are connected to, as in ingress.apps."`
	OIDCIssuer   string        `koanf:"oidc_issuer" doc:"Issuer of OpenID Connect (https://accounts.example.com) for the login; empty for tokens alone. Its redirect URL is console.public_url and /login/callback."`
	OIDCClientID string        `koanf:"oidc_client_id" doc:"Client id at the issuer."`
	OIDCSecret   secret.String `koanf:"oidc_client_secret" doc:"Client secret at the issuer."`
	Operators    []string      `koanf:"oidc_operators" doc:"E-mail addresses, verified by the issuer, of those who may act."`
	Viewers      []string      `koanf:"oidc_viewers" doc:"E-mail addresses of those who may only look; @example.com for all of a domain."`
	Scrape       []string      `koanf:"scrape" doc:"Metrics of the ingress and the processors (http://ingress:9090/metrics), for their latencies and breakers; a name with several addresses is asked at each. Empty shows none."`
	IngressURL   string        `koanf:"ingress_url" doc:"Where a test webhook is posted to (https://hooks.example.com/webhooks/production); empty for none."`
	VerifierKey  secret.String `koanf:"verifier_token" doc:"Verifier token that a test webhook is signed with."`
}

// DefaultConsoleConfig listens on this machine alone.
func DefaultConsoleConfig() ConsoleConfig {
	return ConsoleConfig{Listen: "127.0.0.1:8090", App: "production"}
}

// leastToken is the shortest token that nobody guesses.
const leastToken = 16

// Validate names every setting that cannot be used.
func (c ConsoleConfig) Validate() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("console."+key+": "+format, a...))
	}
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		bad("listen", "%q: give HOST:PORT, such as 127.0.0.1:8090", c.Listen)
	case !loopback(host) && !c.login():
		bad("listen", "%s can be reached from other machines: set console.token (openssl rand -hex 24) or console.oidc_issuer, or listen on 127.0.0.1", c.Listen)
	}
	for key, token := range map[string]secret.String{"token": c.Token, "viewer_token": c.ViewerToken} {
		if token != "" && len(token.Reveal()) < leastToken {
			bad(key, "it has less than %d characters: make one with openssl rand -hex 24", leastToken)
		}
	}
	if c.Token != "" && c.Token == c.ViewerToken {
		bad("viewer_token", "it is the same as console.token: viewers could act")
	}
	for key, text := range map[string]string{"public_url": c.PublicURL, "oidc_issuer": c.OIDCIssuer, "ingress_url": c.IngressURL} {
		if text != "" && !webURL(text) {
			bad(key, "%q: give a URL such as https://console.example.com", text)
		}
	}
	for _, text := range c.Scrape {
		if !webURL(text) {
			bad("scrape", "%q: give URLs such as http://ingress:9090/metrics", text)
		}
	}
	if c.OIDCIssuer != "" {
		if c.OIDCClientID == "" || c.PublicURL == "" {
			bad("oidc_issuer", "console.oidc_client_id and console.public_url are needed with it")
		}
		if len(c.Operators)+len(c.Viewers) == 0 {
			bad("oidc_operators", "nobody could log in: name e-mail addresses here or in console.oidc_viewers")
		}
	}
	if c.App == "" {
		bad("app", "it is empty: give the name of the app, as in ingress.apps")
	}
	if c.IngressURL != "" && c.VerifierKey == "" {
		bad("verifier_token", "it is empty: copy it from the portal, or leave console.ingress_url empty")
	}
	return errors.Join(errs...)
}

// login reports whether there is any.
func (c ConsoleConfig) login() bool {
	return c.Token != "" || c.ViewerToken != "" || c.OIDCIssuer != ""
}

// secure reports whether browsers come by TLS.
func (c ConsoleConfig) secure() bool { return strings.HasPrefix(c.PublicURL, "https://") }

func webURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// loopback: only programs of this machine get there.
func loopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
