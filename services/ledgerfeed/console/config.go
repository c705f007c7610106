package console

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// ConsoleConfig is what an operator sets of the console.
type ConsoleConfig struct {
	Listen         string        `koanf:"listen" doc:"Listen address of the console. An address that other machines reach needs console.public_url and a login (console.token or OpenID Connect); put TLS in front of it."`
	Token          secret.String `koanf:"token" doc:"Login token of operators, at least 16 characters; also the bearer token of the API."`
	ViewerToken    secret.String `koanf:"viewer_token" doc:"Login token of viewers, who have read access only; empty for none."`
	SessionKey     secret.String `koanf:"session_key" doc:"Secret that protects sessions, at least 32 random bytes (openssl rand -hex 32). Required with several replicas, the same for all. If empty, one is generated at startup, and a restart ends every session."`
	Replicas       int           `koanf:"replicas" doc:"Number of console replicas. With more than one, console.session_key is required."`
	SessionIdle    time.Duration `koanf:"session_idle" doc:"End a session after this time without use."`
	SessionMax     time.Duration `koanf:"session_max" doc:"End a session this long after the login, used or not."`
	PublicURL      string        `koanf:"public_url" doc:"Address of the console as browsers reach it (https://console.example.com). Needed behind a proxy, for OpenID Connect, and on an address that other machines reach. http is for this machine alone (http://127.0.0.1:8090): the console then refuses requests that came through a proxy or name another host."`
	TrustedProxies []string      `koanf:"trusted_proxies" doc:"Networks (CIDR) of proxies whose X-Forwarded-For is trusted, for the limits on failed logins. Default: none."`
	App            string        `koanf:"app" doc:"Intuit app that companies are connected to, as in ingress.apps."`
	OIDCIssuer     string        `koanf:"oidc_issuer" doc:"OpenID Connect issuer (https://accounts.example.com) for the login; empty for tokens only. The redirect URL to register is console.public_url followed by /login/callback."`
	OIDCClientID   string        `koanf:"oidc_client_id" doc:"Client id at the issuer."`
	OIDCSecret     secret.String `koanf:"oidc_client_secret" doc:"Client secret at the issuer; empty for a public client, which PKCE protects."`
	Scopes         []string      `koanf:"oidc_scopes" doc:"Scopes to request in addition to openid. Some issuers send groups only with a scope of their own."`
	Operators      []string      `koanf:"oidc_operators" doc:"E-mail addresses of operators, as verified by the issuer."`
	Viewers        []string      `koanf:"oidc_viewers" doc:"E-mail addresses of viewers, who have read access only; @example.com for a whole domain."`
	GroupsClaim    string        `koanf:"oidc_groups_claim" doc:"Claim of the ID token that lists groups or roles; use dots for nested claims, such as realm_access.roles."`
	OperatorGroups []string      `koanf:"oidc_operator_groups" doc:"Groups whose members are operators."`
	ViewerGroups   []string      `koanf:"oidc_viewer_groups" doc:"Groups whose members are viewers, with read access only."`
	TrustEmail     bool          `koanf:"oidc_trust_email" doc:"Accept the e-mail address of an ID token that has no claim email_verified, as Entra ID sends it. Set it only for an issuer that lets nobody choose an address. An address that the issuer calls unverified is refused all the same."`
	Scrape         []string      `koanf:"scrape" doc:"Metrics URLs of the ingress and processors (http://ingress:9090/metrics), to show latencies and breakers; every address of a name is scraped. Empty shows none."`
	IngressURL     string        `koanf:"ingress_url" doc:"Webhook URL for test webhooks (https://hooks.example.com/webhooks/production); empty disables them."`
	VerifierKey    secret.String `koanf:"verifier_token" doc:"Verifier token that signs test webhooks."`
}

// DefaultConsoleConfig listens on this machine alone.
func DefaultConsoleConfig() ConsoleConfig {
	return ConsoleConfig{
		Listen: "127.0.0.1:8090", App: "production", Replicas: 1, SessionIdle: time.Hour, SessionMax: 12 * time.Hour,
		Scopes: []string{"email"}, GroupsClaim: "groups",
	}
}

const (
	// leastToken is the shortest token that nobody guesses.
	leastToken = 16
	// demoToken is that of the compose demo, which is public.
	demoToken = "ledgerfeed-demo-console"
	// leastSymbols is how many different characters a random key has at least.
	leastSymbols = 10
	// A session lasts no longer, and is not idle before.
	longestSession, shortestIdle = 7 * 24 * time.Hour, time.Minute
)

// problems are what is wrong with the settings.
type problems []error

func (p *problems) add(key, format string, a ...any) {
	*p = append(*p, fmt.Errorf("console."+key+": "+format, a...))
}

// Validate names every setting that cannot be used.
func (c ConsoleConfig) Validate() error {
	var p problems
	c.checkAddress(&p)
	c.checkTokens(&p)
	c.checkSessions(&p)
	c.checkOIDC(&p)
	for _, text := range c.Scrape {
		if !webURL(text) {
			p.add("scrape", "%q: give URLs such as http://ingress:9090/metrics", text)
		}
	}
	if c.IngressURL != "" && !webURL(c.IngressURL) {
		p.add("ingress_url", "%q: give a URL such as https://hooks.example.com/webhooks/production", c.IngressURL)
	}
	if c.App == "" {
		p.add("app", "it is empty: give the name of the app, as in ingress.apps")
	}
	if c.IngressURL != "" && c.VerifierKey == "" {
		p.add("verifier_token", "it is empty: copy it from the portal, or leave console.ingress_url empty")
	}
	return errors.Join(p...)
}

// checkAddress: what other machines reach has a login and TLS.
func (c ConsoleConfig) checkAddress(p *problems) {
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		p.add("listen", "%q: give HOST:PORT, such as 127.0.0.1:8090", c.Listen)
	case !loopback(host) && !c.login():
		p.add("listen", "%s can be reached from other machines: set console.token (openssl rand -hex 24) or console.oidc_issuer, or listen on 127.0.0.1", c.Listen)
	case !loopback(host) && c.PublicURL == "":
		p.add("public_url", "it is needed, since %s can be reached from other machines: give the https address that browsers use, or http://127.0.0.1:8090 where all come from this machine", c.Listen)
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case c.PublicURL == "":
	case err != nil || !webURL(c.PublicURL):
		p.add("public_url", "%q: give a URL such as https://console.example.com", c.PublicURL)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		p.add("public_url", "%q: give an https address; http is for this machine alone", c.PublicURL)
	case !loopback(u.Hostname()) && !c.login():
		p.add("public_url", "%q can be reached from other machines: set console.token (openssl rand -hex 24) or console.oidc_issuer", c.PublicURL)
	}
	for _, cidr := range c.TrustedProxies {
		if _, _, err := net.ParseCIDR(cidr); err != nil {
			p.add("trusted_proxies", "%q: give networks such as 10.0.0.0/8", cidr)
		}
	}
}

func (c ConsoleConfig) checkTokens(p *problems) {
	for key, token := range map[string]secret.String{"token": c.Token, "viewer_token": c.ViewerToken} {
		switch {
		case token == "":
		case len(token.Reveal()) < leastToken:
			p.add(key, "it has less than %d characters: make one with openssl rand -hex 24", leastToken)
		case same(demoToken, token) && c.secure():
			p.add(key, "it is the token of the demo, which everybody knows: make one with openssl rand -hex 24")
		}
	}
	if c.Token != "" && c.Token == c.ViewerToken {
		p.add("viewer_token", "it is the same as console.token: viewers could act")
	}
}

func (c ConsoleConfig) checkSessions(p *problems) {
	key := c.SessionKey.Reveal()
	symbols := map[byte]bool{}
	for i := range len(key) {
		symbols[key[i]] = true
	}
	switch {
	case key == "" && c.Replicas > 1:
		p.add("session_key", "it is needed with console.replicas=%d, the same for all of them: make one with openssl rand -hex 32", c.Replicas)
	case key == "":
	case len(key) < minSecret:
		p.add("session_key", "it has less than %d bytes: make one with openssl rand -hex 32", minSecret)
	case len(symbols) < leastSymbols:
		p.add("session_key", "it is not random: make one with openssl rand -hex 32")
	case c.SessionKey == c.Token || c.SessionKey == c.ViewerToken || c.SessionKey == c.OIDCSecret:
		p.add("session_key", "it is also another secret, whose owners could make sessions: make one with openssl rand -hex 32")
	}
	if c.Replicas < 1 {
		p.add("replicas", "%d: give 1 or more", c.Replicas)
	}
	if c.SessionMax > longestSession || c.SessionMax < shortestIdle {
		p.add("session_max", "%s: give 1m to 168h", c.SessionMax)
	}
	if c.SessionIdle < shortestIdle || c.SessionIdle > c.SessionMax {
		p.add("session_idle", "%s: give 1m or more, and no more than console.session_max", c.SessionIdle)
	}
}

func (c ConsoleConfig) checkOIDC(p *problems) {
	if c.OIDCIssuer == "" {
		return
	}
	if !webURL(c.OIDCIssuer) {
		p.add("oidc_issuer", "%q: give a URL such as https://accounts.example.com", c.OIDCIssuer)
	}
	if c.OIDCClientID == "" || c.PublicURL == "" {
		p.add("oidc_issuer", "console.oidc_client_id and console.public_url are needed with it")
	}
	if len(c.Operators)+len(c.Viewers)+len(c.OperatorGroups)+len(c.ViewerGroups) == 0 {
		p.add("oidc_operators", "nobody could log in: name e-mail addresses here or in console.oidc_viewers, or groups in console.oidc_operator_groups or console.oidc_viewer_groups")
	}
	if len(c.OperatorGroups)+len(c.ViewerGroups) > 0 && c.GroupsClaim == "" {
		p.add("oidc_groups_claim", "it is empty: name the claim of the ID token that lists groups, such as groups")
	}
}

// login reports whether there is any.
func (c ConsoleConfig) login() bool {
	return c.Token != "" || c.ViewerToken != "" || c.OIDCIssuer != ""
}

// secure reports whether browsers come by TLS.
func (c ConsoleConfig) secure() bool {
	u, err := url.Parse(c.PublicURL)
	return err == nil && u.Scheme == "https"
}

// local reports whether only this machine may be served: there is no login, or no TLS
// that would protect one.
func (c ConsoleConfig) local() bool { return !c.login() || !c.secure() }

func webURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// loopback: only programs of this machine get there.
func loopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
