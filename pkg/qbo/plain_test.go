package qbo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Bearer tokens and the client secret go out without TLS to this machine and to hosts that
// are named for it alone.
func TestConfig_URLsNeedTLS(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*qbo.Config, string){
		"base_url":      func(c *qbo.Config, u string) { c.BaseURL = u },
		"token_url":     func(c *qbo.Config, u string) { c.TokenURL = u },
		"revoke_url":    func(c *qbo.Config, u string) { c.RevokeURL = u },
		"authorize_url": func(c *qbo.Config, u string) { c.AuthorizeURL = u },
		"redirect_url":  func(c *qbo.Config, u string) { c.RedirectURL = u },
	} {
		for u, ok := range map[string]bool{
			"https://quickbooks.api.intuit.com": true, "http://127.0.0.1:40000": true, "http://localhost:8090": true, "http://[::1]:1": true, "http://quickbooks:8090": true,
			"http://quickbooks.api.intuit.com": false, "http://10.1.2.3": false, "http://feed.example.com": false,
		} {
			c := qbo.DefaultConfig()
			c.ClientID, c.ClientSecret, c.HTTPHosts = "id", "secret", []string{"quickbooks"}
			set(&c, u)
			err := c.Validate()
			require.Equal(t, ok, err == nil, "%s %s: %v", name, u, err)
			if !ok {
				require.ErrorContains(t, err, "qbo."+name)
				require.ErrorContains(t, err, "qbo.http_hosts")
			}
		}
	}
}
