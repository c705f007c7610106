package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

const goodKey = "6f1c9d3b8e2a4075c1d2e3f4a5b6978812345678"

func TestConfig_RefusesWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	demo, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "compose", "demo", "console_token"))
	require.NoError(t, err)
	demoToken := secret.String(strings.TrimSpace(string(demo)))
	beyond := func(c *console.ConsoleConfig) {
		c.Listen, c.Token, c.PublicURL = ":8090", operatorToken, public
	}
	for _, tc := range []struct {
		name string
		edit func(c *console.ConsoleConfig)
		want string // empty: it may start
	}{
		{"this machine alone", func(*console.ConsoleConfig) {}, ""},
		{"beyond, with TLS and login", beyond, ""},
		{"beyond, without its address", func(c *console.ConsoleConfig) { beyond(c); c.PublicURL = "" }, "console.public_url"},
		{"beyond, without TLS", func(c *console.ConsoleConfig) { beyond(c); c.PublicURL = "http://console.example.com" }, "console.public_url"},
		{"a forwarded port", func(c *console.ConsoleConfig) { beyond(c); c.PublicURL = "http://127.0.0.1:8090" }, ""},
		{"an address for all, without login", func(c *console.ConsoleConfig) { c.PublicURL = public }, "console.public_url"},
		{"the demo's token beyond this machine", func(c *console.ConsoleConfig) { beyond(c); c.Token = demoToken }, "console.token"},
		{"the demo's token for viewers", func(c *console.ConsoleConfig) { beyond(c); c.ViewerToken = demoToken }, "console.viewer_token"},
		{"the demo's token at a forwarded port", func(c *console.ConsoleConfig) { beyond(c); c.Token, c.PublicURL = demoToken, "http://localhost:8090" }, ""},
		{"a session key", func(c *console.ConsoleConfig) { beyond(c); c.SessionKey = goodKey }, ""},
		{"a short session key", func(c *console.ConsoleConfig) { beyond(c); c.SessionKey = secret.String(goodKey[:31]) }, "console.session_key"},
		{"a session key of one letter", func(c *console.ConsoleConfig) { beyond(c); c.SessionKey = secret.String(strings.Repeat("a", 64)) }, "console.session_key"},
		{"a session key that is a token", func(c *console.ConsoleConfig) { beyond(c); c.SessionKey, c.ViewerToken = goodKey, goodKey }, "console.session_key"},
		{"several without a session key", func(c *console.ConsoleConfig) { beyond(c); c.Replicas = 2 }, "console.session_key"},
		{"several with one", func(c *console.ConsoleConfig) { beyond(c); c.Replicas, c.SessionKey = 2, goodKey }, ""},
		{"none", func(c *console.ConsoleConfig) { c.Replicas = 0 }, "console.replicas"},
		{"sessions without end", func(c *console.ConsoleConfig) { c.SessionMax *= 100 }, "console.session_max"},
		{"idle for longer than a session", func(c *console.ConsoleConfig) { c.SessionIdle = 2 * c.SessionMax }, "console.session_idle"},
		{"never idle", func(c *console.ConsoleConfig) { c.SessionIdle = 0 }, "console.session_idle"},
		{"a proxy without a network", func(c *console.ConsoleConfig) { c.TrustedProxies = []string{"10.0.0.1"} }, "console.trusted_proxies"},
		{"a public client", func(c *console.ConsoleConfig) {
			c.OIDCIssuer, c.OIDCClientID, c.PublicURL, c.OperatorGroups = "https://accounts.example.com", "console", public, []string{"ops"}
		}, ""},
		{"an issuer that lets nobody in", func(c *console.ConsoleConfig) {
			c.OIDCIssuer, c.OIDCClientID, c.PublicURL = "https://accounts.example.com", "console", public
		}, "console.oidc_operators"},
	} {
		c := console.DefaultConsoleConfig()
		tc.edit(&c)
		if err := c.Validate(); tc.want == "" {
			require.NoError(t, err, tc.name)
		} else {
			require.ErrorContains(t, err, tc.want+":", tc.name)
			require.NotContains(t, err.Error(), goodKey[:31], tc.name)
		}
	}
}

// The token of the demo, which is in the repository, is refused by its value.
func TestConfig_KnowsTheDemoToken(t *testing.T) {
	t.Parallel()
	token, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "compose", "demo", "console_token"))
	require.NoError(t, err)
	c := console.DefaultConsoleConfig()
	c.Token, c.PublicURL = secret.String(strings.TrimSpace(string(token))), public
	require.ErrorContains(t, c.Validate(), "demo")
}
