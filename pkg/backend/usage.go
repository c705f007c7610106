package backend

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// usageTimeout bounds what a scrape waits for Redis.
const usageTimeout = time.Second

// usage are the metrics of the month's calls: those of all replicas.
type usage struct {
	budget                             *state.Budget
	connections                        *connection.Store
	calls, forecast, allowed, realmDay *prometheus.Desc
}

func newUsage(b *state.Budget, c *connection.Store) *usage {
	return &usage{
		budget: b, connections: c,
		calls:    prometheus.NewDesc("ledgerfeed_month_calls", "Metered calls of the app in this calendar month, by priority.", []string{"priority"}, nil),
		forecast: prometheus.NewDesc("ledgerfeed_month_calls_forecast", "Metered calls at the end of this month, as the last seven days go.", nil, nil),
		realmDay: prometheus.NewDesc("ledgerfeed_realm_day_calls", "Metered calls a company takes a day: the mean of the last seven days over the companies that are live now.", nil, nil),
		allowed:  prometheus.NewDesc("ledgerfeed_month_calls_allowed", "qbo.monthly_calls; 0 for no bound.", nil, nil),
	}
}

func (u *usage) Describe(to chan<- *prometheus.Desc) {
	to <- u.calls
	to <- u.forecast
	to <- u.allowed
	to <- u.realmDay
}

// Collect leaves them out while Redis does not answer.
func (u *usage) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	now, err := u.budget.Usage(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(u.calls, now.Live, "live")
	gauge(u.calls, now.Backfill, "backfill")
	gauge(u.forecast, now.Forecast)
	gauge(u.allowed, now.Budget)
	if counts, err := u.connections.Counts(ctx); err == nil && counts[connection.Live] > 0 {
		to <- prometheus.MustNewConstMetric(u.realmDay, prometheus.GaugeValue, now.PerDay/float64(counts[connection.Live]))
	}
}
