package reload

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	applied = "applied"
	refused = "refused"
)

type metrics struct {
	reloads *prometheus.CounterVec // outcome
	last    prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_settings_reloads_total",
			Help: "Readings of the settings after the start: applied, or refused (the old values stay).",
		}, []string{"outcome"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ledgerfeed_settings_last_reload_timestamp_seconds",
			Help: "When the settings were last read and applied, at the start or after it, in Unix seconds.",
		}),
	}
	m.reloads.WithLabelValues(applied)
	m.reloads.WithLabelValues(refused)
	m.last.SetToCurrentTime()
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.reloads), r.Register(m.last))
}
