package backend

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// tokens are the metrics of all connections: how many are in each state, and whose
// authorisation ends soon.
type tokens struct {
	connections         *connection.Store
	state               *state.Store
	realms, ending, end *prometheus.Desc
	apps, lost          *prometheus.Desc
}

func newTokens(c *connection.Store, s *state.Store) *tokens {
	return &tokens{
		connections: c, state: s,
		lost:   prometheus.NewDesc("ledgerfeed_lost_connections", "Companies whose record of the connection Redis has lost, with its tokens; a person must connect them again.", nil, nil),
		apps:   prometheus.NewDesc("ledgerfeed_refused_apps", "Apps that Intuit refuses as a whole: the keys, the base URL or the environment is wrong.", nil, nil),
		realms: prometheus.NewDesc("ledgerfeed_realms", "Companies by the state of their connection, over all replicas.", []string{"state"}, nil),
		ending: prometheus.NewDesc("ledgerfeed_token_ending_realms", "Companies whose authorisation ends within that time: 100 days after the last refresh (refresh) or five years after the consent (hard).", []string{"deadline", "within"}, nil),
		end:    prometheus.NewDesc("ledgerfeed_token_first_end_timestamp_seconds", "When the first authorisation ends; absent if there is none.", []string{"deadline"}, nil),
	}
}

func (t *tokens) Describe(to chan<- *prometheus.Desc) {
	to <- t.realms
	to <- t.ending
	to <- t.end
	to <- t.apps
	to <- t.lost
}

// windows are how far ahead deadlines are counted.
var windows = []struct {
	name string
	time.Duration
}{{"0d", 0}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}, {"90d", 90 * 24 * time.Hour}}

// Collect leaves them out while Redis does not answer.
func (t *tokens) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counts, err := t.connections.Counts(ctx)
	if err != nil {
		return
	}
	for state, n := range counts {
		gauge(t.realms, float64(n), string(state))
	}
	if lost, err := t.connections.Lost(ctx); err == nil {
		gauge(t.lost, float64(len(lost)))
	}
	if problems, err := t.state.AppProblems(ctx); err == nil {
		gauge(t.apps, float64(len(problems)))
	}
	now := time.Now()
	for _, kind := range []connection.DeadlineKind{connection.RefreshDeadline, connection.HardDeadline} {
		for _, w := range windows {
			_, total, err := t.connections.Deadlines(ctx, kind, now.Add(w.Duration), 0)
			if err != nil {
				return
			}
			gauge(t.ending, float64(total), string(kind), w.name)
		}
		first, _, err := t.connections.Deadlines(ctx, kind, now.AddDate(100, 0, 0), 1)
		if err != nil {
			return
		}
		for _, d := range first {
			gauge(t.end, float64(d.At.Unix()), string(kind))
		}
	}
}
