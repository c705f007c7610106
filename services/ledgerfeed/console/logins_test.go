package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

func behindProxy(c *console.ConsoleConfig) {
	withTokens(c)
	c.PublicURL, c.TrustedProxies = public, []string{"127.0.0.0/8"}
}

// logins is the metric, by "method outcome".
func (b *bundle) logins() map[string]float64 {
	b.Helper()
	families, err := b.registry.Gather()
	require.NoError(b, err)
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "ledgerfeed_console_logins_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			counts[label(m, "method")+" "+label(m, "outcome")] = m.GetCounter().GetValue()
		}
	}
	return counts
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Somebody who guesses is slowed down, by form and by bearer token; a person with the right
// one gets in at any time, also from the same address.
func TestLogin_OnlyFailuresAreLimited(t *testing.T) {
	t.Parallel()
	const attacker, person = "203.0.113.7", "198.51.100.4"
	form := func(b *bundle, peer, token string) int {
		resp, _ := b.ask(http.MethodPost, "/login", url.Values{"token": {token}}, "X-Forwarded-For", peer)
		return resp.StatusCode
	}
	bearer := func(b *bundle, peer, token string) int {
		resp, _ := b.ask(http.MethodGet, overview, nil, "X-Forwarded-For", peer, "Authorization", "Bearer "+token)
		return resp.StatusCode
	}
	for name, tc := range map[string]struct {
		try func(b *bundle, peer, token string) int
		in  int
	}{
		"token":  {form, http.StatusSeeOther},
		"bearer": {bearer, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, behindProxy)
			got := map[int]int{}
			for i := range 60 {
				got[tc.try(b, attacker, fmt.Sprintf("guess-%d", i))]++
				require.Equal(t, tc.in, tc.try(b, person, operatorToken), "another address")
				require.Equal(t, tc.in, tc.try(b, attacker, operatorToken), "the same address")
			}
			require.GreaterOrEqual(t, got[http.StatusUnauthorized], 10)
			require.NotZero(t, got[http.StatusTooManyRequests])
			require.Equal(t, 60, got[http.StatusUnauthorized]+got[http.StatusTooManyRequests])
			require.Equal(t, http.StatusUnauthorized, tc.try(b, person, "a typing mistake"), "not limited by others")

			counts := b.logins()
			require.EqualValues(t, got[http.StatusUnauthorized]+1, counts[name+" failed"])
			require.EqualValues(t, got[http.StatusTooManyRequests], counts[name+" limited"])
			warned := b.logs.FilterMessage("login failed").FilterLevelExact(zap.WarnLevel)
			require.Equal(t, got[http.StatusUnauthorized]+1, warned.Len(), "what is limited does not fill the log")
			require.Equal(t, attacker, warned.All()[0].ContextMap()["peer"])
			require.NotContains(t, fmt.Sprint(b.logs.All()), "guess-", "no credential is logged")
		})
	}
}

// The address is the connection's unless a named proxy says otherwise: it cannot be chosen.
func TestLogin_AnAddressCannotBeChosen(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *console.ConsoleConfig) { withTokens(c); c.PublicURL = public })
	limited := 0
	for i := range 60 {
		resp, _ := b.ask(http.MethodPost, "/login", url.Values{"token": {"guess"}}, "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i), "X-Real-IP", fmt.Sprintf("203.0.113.%d", i))
		if resp.StatusCode == http.StatusTooManyRequests {
			limited++
		}
	}
	require.NotZero(t, limited)
}
