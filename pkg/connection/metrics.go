package connection

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refreshes *prometheus.CounterVec
	late      prometheus.Counter
}

// newMetrics registers them, unless there is nowhere to. unsaved counts the tokens
// that are in memory only.
func newMetrics(to prometheus.Registerer, unsaved func() float64) (*metrics, error) {
	m := &metrics{refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ledgerfeed_token_refreshes_total",
		Help: "Refreshes of OAuth tokens by this process: ok, failed (it is tried again), refused (invalid_grant; tried again after 1 h, 6 h, then daily), other_client (not tried: the token belongs to another client id).",
	}, []string{"outcome"})}
	m.late = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ledgerfeed_disconnected_events_total",
		Help: "Events of webhooks for companies that were disconnected more than an hour before: Intuit still lets the app read them.",
	})
	for _, outcome := range []string{"ok", "failed", "refused", "other_client"} {
		m.refreshes.WithLabelValues(outcome)
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.refreshes, m.late} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ledgerfeed_token_unsaved",
		Help: "Refreshed tokens that this process holds in memory because Redis does not take them.",
	}, unsaved))
}

func (s *Store) unsavedTokens() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(len(s.unsaved))
}
