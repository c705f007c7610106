package plainhttp_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/plainhttp"
)

func TestCheck_PlainHTTPGoesToThisMachineAndToListedHosts(t *testing.T) {
	t.Parallel()
	for raw, allowed := range map[string]bool{
		"https://api.example.com/":              true,
		"http://127.0.0.1:8080/":                true,
		"http://127.9.9.9/":                     true,
		"http://[::1]:8080/":                    true,
		"http://localhost/":                     true,
		"http://LocalHost:1/":                   true,
		"http://quickbooks:8090":                true,
		"http://QUICKBOOKS:8090":                true,
		"http://api.example.com/":               false,
		"http://10.0.0.5/":                      false,
		"http://169.254.169.254/":               false,
		"http://quickbooks.evil.example/":       false,
		"http://localhost.evil.example/":        false,
		"http://127.0.0.1.evil.example/":        false,
		"http://quickbooks@api.example.com/":    false,
		"http://[::ffff:10.0.0.5]/":             false,
		"http://quickbooks.api.intuit.com/v3/x": false,
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err, raw)
		err = plainhttp.Check(u, []string{"quickbooks"}, "qbo.http_hosts")
		require.Equal(t, allowed, err == nil, "%s: %v", raw, err)
	}
}
