package qbo_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestConfig_DefaultsNeedOnlyTheApp(t *testing.T) {
	c := qbo.DefaultConfig()
	err := c.Validate()
	require.ErrorContains(t, err, "qbo.client_id is empty")
	require.ErrorContains(t, err, "qbo.client_secret is empty")
	c.ClientID, c.ClientSecret = "id", "secret"
	require.NoError(t, c.Validate())
	_, err = c.OAuth()
	require.NoError(t, err)
	_, err = c.Client(&tokens{}, nil, nil)
	require.NoError(t, err)
}

func TestConfig_NamesWhatIsWrong(t *testing.T) {
	for name, change := range map[string]func(*qbo.Config){
		`qbo.timeout 0s`:   func(c *qbo.Config) { c.Timeout = 0 },
		`qbo.timeout 2m1s`: func(c *qbo.Config) { c.Timeout = 121 * time.Second },
		`qbo.base_url ""`:  func(c *qbo.Config) { c.BaseURL = "" },
		`leave out the path, /v3/company is added: https://quickbooks.api.intuit.com`: func(c *qbo.Config) { c.BaseURL = qbo.ProductionURL + "/v3" },
		`qbo.token_url "intuit"`:     func(c *qbo.Config) { c.TokenURL = "intuit" },
		`qbo.redirect_url "ftp://x"`: func(c *qbo.Config) { c.RedirectURL = "ftp://x" },
	} {
		c := qbo.DefaultConfig()
		c.ClientID, c.ClientSecret = "id", "very-secret"
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "very-secret")
	}
}
