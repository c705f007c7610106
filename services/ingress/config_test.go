package ingress_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func TestIngressConfig_DefaultsNeedOnlyTheApps(t *testing.T) {
	c := ingress.DefaultIngressConfig()
	require.ErrorContains(t, c.Validate(), "LEDGERFEED_INGRESS_APPS")
	c.Apps = apps
	require.NoError(t, c.Validate())
}

func TestIngressConfig_ValidateNamesFieldAndValue(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*ingress.IngressConfig)
		want   string
	}{
		{"listen", func(c *ingress.IngressConfig) { c.Listen = "8080" }, `ingress.listen is "8080"`},
		{"budget as long as Intuit's", func(c *ingress.IngressConfig) { c.Budget = 3 * time.Second }, "ingress.budget is 3s"},
		{"no budget", func(c *ingress.IngressConfig) { c.Budget = 0 }, "ingress.budget is 0s"},
		{"body timeout above the budget", func(c *ingress.IngressConfig) { c.BodyTimeout = 2600 * time.Millisecond }, "ingress.body_timeout is 2.6s"},
		{"no body timeout", func(c *ingress.IngressConfig) { c.BodyTimeout = 0 }, "ingress.body_timeout is 0s"},
		{"body below Intuit's", func(c *ingress.IngressConfig) { c.MaxBody = 1000 }, "ingress.max_body is 1000"},
		{"in flight", func(c *ingress.IngressConfig) { c.MaxInFlight = 0 }, "ingress.max_in_flight is 0"},
		{"no room for one body", func(c *ingress.IngressConfig) { c.MaxInFlightBytes = c.MaxBody }, "ingress.max_in_flight_bytes is 8388608"},
		{"drain", func(c *ingress.IngressConfig) { c.DrainTimeout = -1 }, "ingress.drain_timeout is -1ns"},
		{"proxies", func(c *ingress.IngressConfig) { c.TrustedProxies = []string{"10.0.0.1"} }, "ingress.trusted_proxies is 10.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := ingress.DefaultIngressConfig()
			c.Apps = apps
			tc.change(&c)
			require.ErrorContains(t, c.Validate(), tc.want)
			_, err := ingress.New(ingress.Options{Config: c})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestIngressConfig_AppsAreRefusedWithoutShowingTokens(t *testing.T) {
	for _, tc := range []struct{ name, apps, want string }{
		{"empty", "", "LEDGERFEED_INGRESS_APPS_FILE"},
		{"only separators", " ;\n; ", "LEDGERFEED_INGRESS_APPS"},
		{"a token alone", "sesame", "app 1 has no '='"},
		{"no name", "a=b;=sesame", "the name of app 2"},
		{"name that is no path", "a/b=sesame", "the name of app 1"},
		{"dots", "..=sesame", "the name of app 1"},
		{"long name", strings.Repeat("a", 65) + "=sesame", "the name of app 1"},
		{"no token", "a=sesame;b=", "app b has no verifier token: write b=TOKEN"},
		{"only commas", "a=, ,", "app a has no verifier token"},
		{"short", "a=sesame-sesame-se,sesame-sesame-;b=sesame", "token 2 of app a has fewer than 16 characters"},
		{"short, another app", "a=sesame-sesame-se,sesame-sesame-;b=sesame", "token 1 of app b"},
		{"twice", "a=sesame;a=sesame2", "app a is named twice"},
		{"all at once", "x;y=;=sesame", "app 1 has no '='"},
		{"all at once", "x;y=;=sesame", "app y has no verifier token"},
		{"all at once", "x;y=;=sesame", "the name of app 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := ingress.DefaultIngressConfig()
			c.Apps = secret.String(tc.apps)
			err := c.Validate()
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "sesame")
		})
	}
	const long = "verifier-token-1"
	c := ingress.DefaultIngressConfig()
	for _, apps := range []string{"a=" + long, " a = " + long + " , " + long + "c ; d=" + long + ";", "a=" + long + "\r\nd=" + long + "\n", "a=tok=en=" + long + "=="} {
		c.Apps = secret.String(apps)
		require.NoError(t, c.Validate(), apps)
	}
}

func TestConfig_EverySettingIsDocumented(t *testing.T) {
	c := ingress.DefaultConfig()
	c.Ingress.Apps = apps
	require.NoError(t, c.Validate())
	for _, f := range config.Describe(&c) {
		require.Regexp(t, `^[A-Zj].*[.)]$`, f.Doc, f.Key)
	}
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	c := ingress.DefaultIngressConfig()
	c.Listen, c.Apps = "127.0.0.1:0", apps
	_, err := ingress.New(ingress.Options{Config: c})
	require.ErrorContains(t, err, "Publisher")

	registry := prometheus.NewRegistry()
	s, err := ingress.New(ingress.Options{Config: c, Publisher: crashing{}, Registerer: registry})
	require.NoError(t, err)
	_, err = ingress.New(ingress.Options{Config: c, Publisher: crashing{}, Registerer: registry})
	require.ErrorContains(t, err, "register metrics")

	c.Listen = s.Addr()
	_, err = ingress.New(ingress.Options{Config: c, Publisher: crashing{}})
	require.ErrorContains(t, err, s.Addr())
	require.NoError(t, s.Ready(t.Context()))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.NoError(t, s.Run(t.Context()), "closed before it ran")
	l, err := net.Listen("tcp", c.Listen)
	require.NoError(t, err, "the port is free again")
	l.Close()
}

// What is left of the first address that is no proxy of ours anybody can write.
func TestServer_BelievesOnlyTrustedProxies(t *testing.T) {
	local, private := "127.0.0.0/8", "10.0.0.0/8"
	for _, tc := range []struct {
		name    string
		proxies []string
		header  []string
		want    string
	}{
		{"nobody is trusted", nil, []string{"198.51.100.1, 203.0.113.9"}, "127.0.0.1"},
		{"our proxy", []string{local}, []string{"203.0.113.9"}, "203.0.113.9"},
		{"something written before it", []string{local}, []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
		{"one of ours written before it", []string{local, private}, []string{"10.0.0.9, 203.0.113.9"}, "203.0.113.9"},
		{"several of ours", []string{local, private}, []string{"198.51.100.1, 203.0.113.9, 10.1.2.3, 10.4.5.6"}, "203.0.113.9"},
		{"one of theirs between", []string{local, private}, []string{"203.0.113.9, 192.0.2.7, 10.1.2.3"}, "192.0.2.7"},
		{"header given twice", []string{local}, []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
		{"IPv6", []string{local, "2001:db8:ffff::/48"}, []string{"2001:db8::bad, 2001:DB8:0::1, 2001:db8:ffff::7"}, "2001:db8::1"},
		{"IPv6 in brackets", []string{local}, []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv4 as IPv6", []string{local, private}, []string{"203.0.113.9, ::ffff:10.1.2.3"}, "203.0.113.9"},
		{"no address", []string{local}, []string{"203.0.113.9, <b>"}, "127.0.0.1"},
		{"no address before ours", []string{local}, []string{"<b>, 203.0.113.9"}, "203.0.113.9"},
		{"empty", []string{local}, []string{""}, "127.0.0.1"},
		{"none but ours", []string{local, private}, []string{"10.1.2.3"}, "10.1.2.3"},
		{"a proxy of others", []string{private}, []string{"203.0.113.9"}, "127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := setup(t, configured(func(c *ingress.IngressConfig) { c.TrustedProxies = tc.proxies }))
			req := b.request(event("1", "1"), "wrong")
			req.Header["X-Forwarded-For"] = tc.header
			req.Header.Set("X-Real-Ip", "198.51.100.2")
			req.Header.Set("Forwarded", "for=198.51.100.3")
			a, err := b.send(req)
			require.NoError(t, err)
			require.Equal(t, http.StatusUnauthorized, a.status)
			require.Equal(t, tc.want, b.logs.FilterMessage("notification refused").All()[0].ContextMap()["address"])
		})
	}
}
