package reconciler

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

type metrics struct {
	scans      *prometheus.CounterVec
	took       prometheus.Histogram
	calls      *prometheus.CounterVec
	splits     prometheus.Counter
	truncated  *prometheus.CounterVec
	sweeps     *prometheus.CounterVec
	counts     *prometheus.CounterVec
	poison     *prometheus.CounterVec
	incomplete *prometheus.CounterVec
	refused    *prometheus.CounterVec
	missing    *prometheus.CounterVec
	gaps       *prometheus.CounterVec
	moved      prometheus.Counter
	forgotten  prometheus.Counter
	parked     prometheus.Gauge
	outages    prometheus.Counter
	held       prometheus.Gauge
	jobs       *prometheus.CounterVec
	followUps  prometheus.Counter
	restored   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, open func() int, lag, silence func() time.Duration) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ledgerfeed", Subsystem: "reconciler", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "ledgerfeed", Subsystem: "reconciler", Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &metrics{
		scans:      counters("scans_total", "Scans of a realm, by how they ended.", "outcome"),
		calls:      counters("calls_total", "Calls to the QuickBooks API.", "kind", "outcome"),
		splits:     counter("cdc_splits_total", "CDC calls made again in halves, because the answer was cut off or refused."),
		truncated:  counters("cdc_truncated_total", "Entities with too many changes for one CDC answer; they are read by Query.", "entity"),
		sweeps:     counters("sweeps_total", "Readings of all ids of an entity, to find what was deleted.", "entity"),
		counts:     counters("unused_counts_total", "Counts of an entity that only Query can find and that a realm does not use.", "entity"),
		poison:     counters("poison_records_total", "Records that made QuickBooks fail every request they are in.", "entity"),
		incomplete: counters("incomplete_total", "Entities left out of a scan because they cannot be read as a whole; their cursors stay.", "entity"),
		refused:    counters("refusals_total", "Responses that refused an entity of a company, while other entities answered; it is left out and retried.", "entity"),
		missing:    counters("missing_total", "Changes found by a scan that some sink lacked, initial loads included.", "source"),
		gaps:       counters("gaps_total", "Changes that no webhook brought, by why.", "verdict"),
		moved:      counter("cursors_moved_total", "Cursors moved by verified scans."),
		forgotten:  counter("scans_forgotten_total", "Scans whose changes were not delivered in time; their cursors stay."),
		outages:    counter("outages_total", "Times that all realms were made due because webhooks may have been lost by us."),
		followUps:  counter("follow_ups_ended_total", "Records that one answer was not enough to conclude from, and that a later scan has settled."),
		restored:   counter("restored_total", "Records that a sink held as deleted and that QuickBooks has: they were delivered again."),
		jobs:       counters("jobs_total", "Scans that somebody asked for, by how they ended.", "outcome"),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "scan_duration_seconds",
			Help: "Length of the scan of a realm, without its verification.", Buckets: prometheus.ExponentialBuckets(0.1, 4, 8),
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "held_deletions",
			Help: "Deletions that wait for ledgerfeed deletions approve or reject, over all realms: too many records were absent at once.",
		}),
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "parked_realms",
			Help: "Realms that are not scanned because their authorisation has lapsed, a person has parked them or Intuit refuses them, as far as this replica has met them.",
		}),
	}
	reg.MustRegister(m.took, m.held, m.parked, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "unverified_scans",
		Help: "Scans whose changes are not all delivered yet.",
	}, func() float64 { return float64(open()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "cursor_age_seconds",
		Help: "Age of the oldest cursor of any realm this replica has met and that is not parked, without entities that QuickBooks refuses there. Beyond 29 days a scan costs more than one call.",
	}, func() float64 { return lag().Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ledgerfeed", Subsystem: "reconciler", Name: "ingress_silence_seconds",
		Help: "For how long nothing was heard of any ingress; 0 if none ever was. Beyond reconciler.outage_gap it is an outage.",
	}, func() float64 { return silence().Seconds() }))
	return m
}

// called counts a call by how it ended.
func (m *metrics) called(kind string, err error) {
	outcome := "ok"
	switch {
	case err == nil:
	case errors.Is(err, qbo.ErrThrottled):
		outcome = "throttled"
	case qbo.Temporary(err):
		outcome = "temporary"
	default:
		outcome = "refused"
	}
	m.calls.WithLabelValues(kind, outcome).Inc()
}
