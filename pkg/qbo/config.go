package qbo

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/plainhttp"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// The API's base URLs, from Intuit's page on sandboxes.
const (
	ProductionURL = "https://quickbooks.api.intuit.com"
	SandboxURL    = "https://sandbox-quickbooks.api.intuit.com"
)

// Config is what an operator sets about Intuit's API and the app that calls it.
type Config struct {
	BaseURL      string        `koanf:"base_url" doc:"Base URL of the QuickBooks API. For sandbox companies: https://sandbox-quickbooks.api.intuit.com."`
	ClientID     string        `koanf:"client_id" live:"true" file:"true" doc:"Client ID of the Intuit app, from the portal's page Keys & credentials. Reloaded when its file changes and on SIGHUP."`
	ClientSecret secret.String `koanf:"client_secret" live:"true" doc:"Client secret of the Intuit app. Reloaded when its file changes and on SIGHUP."`
	TokenURL     string        `koanf:"token_url" doc:"OAuth token endpoint; empty for Intuit's."`
	RevokeURL    string        `koanf:"revoke_url" doc:"OAuth revocation endpoint; empty for Intuit's."`
	AuthorizeURL string        `koanf:"authorize_url" doc:"OAuth consent page; empty for Intuit's."`
	RedirectURL  string        `koanf:"redirect_url" doc:"Redirect URL after the consent; it must be registered in the portal."`
	HTTPHosts    []string      `koanf:"http_hosts" doc:"Hosts that the URLs above may reach without TLS, in addition to this machine; for a simulated QuickBooks. Other http:// URLs are refused, because tokens and the client secret would travel unencrypted."`
	PKCE         bool          `koanf:"pkce" doc:"Bind the consent to the token exchange by PKCE (S256). Intuit's discovery document does not offer it; the simulated QuickBooks checks it."`
	Timeout      time.Duration `koanf:"timeout" doc:"Timeout of one API call, at most 2m."`
	MonthlyCalls int64         `koanf:"monthly_calls" doc:"Maximum metered calls (CorePlus: successful reads and queries of production companies) per calendar month; the last tenth is reserved for live changes. 0 = no limit, calls are only counted and forecast. Intuit blocks an app of the free Builder tier after 500000."`
}

// DefaultConfig is Intuit's production API. ClientID and ClientSecret have no default.
func DefaultConfig() Config {
	return Config{BaseURL: ProductionURL, Timeout: defaultTimeout}
}

// Validate names every setting that cannot be used, its value and what would do.
func (c Config) Validate() error {
	var errs []error
	if c.ClientID == "" {
		errs = append(errs, errors.New("qbo.client_id is empty: copy it from the Intuit app's page Keys & credentials"))
	}
	if c.ClientSecret == "" {
		errs = append(errs, errors.New("qbo.client_secret is empty: copy it from the Intuit app's page Keys & credentials"))
	}
	if c.Timeout <= 0 || c.Timeout > maxTimeout {
		errs = append(errs, fmt.Errorf("qbo.timeout %s: give a duration from 1s to %s", c.Timeout, maxTimeout))
	}
	if c.MonthlyCalls < 0 {
		errs = append(errs, fmt.Errorf("qbo.monthly_calls %d: give a number of calls, or 0 for no bound", c.MonthlyCalls))
	}
	for _, u := range []struct{ key, value string }{
		{"base_url", c.BaseURL}, {"token_url", c.TokenURL}, {"revoke_url", c.RevokeURL},
		{"authorize_url", c.AuthorizeURL}, {"redirect_url", c.RedirectURL},
	} {
		if u.value == "" && u.key != "base_url" {
			continue
		}
		parsed, err := url.Parse(u.value)
		if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
			errs = append(errs, fmt.Errorf("qbo.%s %q: give a URL such as %s", u.key, u.value, ProductionURL))
		} else if u.key == "base_url" && strings.HasPrefix(parsed.Path+"/", "/v3/") {
			errs = append(errs, fmt.Errorf("qbo.base_url %q: leave out the path, /v3/company is added: %s://%s", u.value, parsed.Scheme, parsed.Host))
		} else if err := plainhttp.Check(parsed, c.HTTPHosts, "qbo.http_hosts"); err != nil {
			errs = append(errs, fmt.Errorf("qbo.%s: %w", u.key, err))
		}
	}
	return errors.Join(errs...)
}

// OAuth makes what refreshes the tokens of the app's realms.
func (c Config) OAuth() (*OAuth, error) {
	return NewOAuth(OAuthOptions{
		ClientID:     c.ClientID,
		ClientSecret: c.ClientSecret,
		AuthorizeURL: c.AuthorizeURL,
		TokenURL:     c.TokenURL,
		RevokeURL:    c.RevokeURL,
		RedirectURL:  c.RedirectURL,
		Timeout:      c.Timeout,
	})
}

// Client makes a client that calls under these tokens and within this limit, and
// tells observe of each call.
func (c Config) Client(tokens TokenSource, limiter Limiter, observe func(Call)) (*Client, error) {
	return New(Options{BaseURL: c.BaseURL, Tokens: tokens, Limiter: limiter, Timeout: c.Timeout, Observe: observe})
}
