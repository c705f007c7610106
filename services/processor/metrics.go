package processor

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Stats are counts since New.
type Stats struct {
	// Delivered counts changes that reached at least one sink, by how they were
	// learned. A sink that takes one later, from its retry queue, counts anew.
	Delivered map[ledgerfeedv1.Source]int64
	// Written counts changes by the sink that took them.
	Written map[string]int64
	// Duplicates counts events that every sink had the effect of: they cost no call.
	Duplicates int64
	// Tombstones counts those of the delivered changes that say an entity is gone.
	Tombstones int64
	// Dead counts events that became dead letters.
	Dead int64
	// Parked counts events of realms whose authorisation has lapsed.
	Parked int64
	// Calls counts calls to the API, failed ones included.
	Calls int64
}

var stepBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// counters keep Stats and the metrics together.
type counters struct {
	mu    sync.Mutex // guards stats
	stats Stats

	deliveries *prometheus.CounterVec   // by source and entity
	latency    *prometheus.HistogramVec // by source
	writes     *prometheus.CounterVec   // by sink
	duplicates prometheus.Counter
	deaths     *prometheus.CounterVec // by reason
	parkings   prometheus.Counter
	calls      *prometheus.CounterVec // by kind and outcome
	ids        prometheus.Histogram
	retries    *prometheus.CounterVec // by sink
	putOffs    prometheus.Counter

	waits   prometheus.Histogram
	steps   *prometheus.HistogramVec // by step
	tries   *prometheus.HistogramVec // by sink and outcome
	stales  *prometheus.CounterVec   // by sink
	filters *prometheus.CounterVec   // by sink
	oldest  prometheus.Gauge
	backlog *prometheus.GaugeVec // by group
	parcels *prometheus.GaugeVec // by sink
	waiting prometheus.Gauge
	newer   prometheus.Counter
	follows *prometheus.CounterVec // by kind

	strangers prometheus.Counter
	foreigns  prometheus.Counter
	roomless  *prometheus.CounterVec // by reason
	left      *prometheus.CounterVec // by sink
	lagging   *prometheus.GaugeVec   // by sink
	failing   *prometheus.GaugeVec   // by sink and reason
}

func newCounters(r prometheus.Registerer, h *hand, outputs []*output) *counters {
	const space, part = "ledgerfeed", "processor"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: space, Subsystem: part, Name: name, Help: help}
	}
	c := &counters{
		stats: Stats{Delivered: map[ledgerfeedv1.Source]int64{}, Written: map[string]int64{}},
		deliveries: prometheus.NewCounterVec(counter("changes_delivered_total",
			"Changes that reached a sink, by how they were learned."), []string{"source", "entity"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "delivery_seconds",
			Help:    "Time from learning of a change to its delivery.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
		}, []string{"source"}),
		writes: prometheus.NewCounterVec(counter("changes_written_total",
			"Changes that a sink took."), []string{"sink"}),
		duplicates: prometheus.NewCounter(counter("events_covered_total",
			"Events whose effect every sink had already; they cost no call.")),
		deaths: prometheus.NewCounterVec(counter("events_dead_total",
			"Events that became dead letters."), []string{"reason"}),
		parkings: prometheus.NewCounter(counter("events_parked_total",
			"Events of realms whose authorisation has lapsed, that a person has parked, or that Intuit has refused for more than a day; the scan that follows finds them.")),
		calls: prometheus.NewCounterVec(counter("calls_total",
			"Calls to the QuickBooks API."), []string{"kind", "outcome"}),
		ids: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: space, Subsystem: part, Name: "query_ids", Help: "Records asked for in one Query.",
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 200, 400},
		}),
		retries: prometheus.NewCounterVec(counter("events_retried_total",
			"Events put on the retry queue of a sink that did not take them."), []string{"sink"}),
		putOffs: prometheus.NewCounter(counter("messages_put_off_total",
			"Messages given back to the broker for another try.")),
	}
	inHandGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: space, Subsystem: part, Name: "messages_in_hand", Help: "Messages taken off the stream and not settled.",
	}, func() float64 { return float64(h.count()) })
	c.waits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: space, Subsystem: part, Name: "wait_seconds", Buckets: stepBuckets,
		Help: "Time from learning of a change to the beginning of its batch: on the stream and in its lane.",
	})
	c.steps = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: space, Subsystem: part, Name: "step_seconds", Help: "Time a batch took in a step.", Buckets: stepBuckets,
	}, []string{"step"})
	c.tries = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: space, Subsystem: part, Name: "sink_write_seconds", Help: "Time of a write to a sink, by outcome: ok, partial, refused, failed, down.", Buckets: stepBuckets,
	}, []string{"sink", "outcome"})
	c.stales = prometheus.NewCounterVec(counter("stale_skipped_total",
		"Changes not written because the sink has them or newer ones."), []string{"sink"})
	c.filters = prometheus.NewCounterVec(counter("changes_filtered_total",
		"Changes that the filter of a sink left out."), []string{"sink"})
	gauge := func(name, help string) prometheus.GaugeOpts { return prometheus.GaugeOpts(counter(name, help)) }
	c.oldest = prometheus.NewGauge(gauge("oldest_event_age_seconds", "Age of the oldest event that is not settled, across all replicas (0 = no such event)."))
	c.backlog = prometheus.NewGaugeVec(gauge("events_waiting", "Messages of a group of partitions that are not settled, over all replicas."), []string{"group"})
	c.parcels = prometheus.NewGaugeVec(gauge("sink_backlog", "Messages on the retry queue of a sink, over all replicas."), []string{"sink"})
	c.waiting = prometheus.NewGauge(gauge("messages_waiting", "Deferred messages of realms that cannot be read, across all replicas."))
	c.newer = prometheus.NewCounter(counter("newer_messages_total", "Messages left to a newer version of the processor; they are redelivered."))
	c.follows = prometheus.NewCounterVec(counter("follow_ups_total",
		"Records that one answer was not enough to conclude from, by kind: tombstone is one that ChangeDataCapture has not confirmed, read a read older than its event. The next scan asks for them by id."), []string{"kind"})
	c.strangers = prometheus.NewCounter(counter("events_unconnected_total", "Events of companies that are not connected; each company gets one dead letter a day."))
	c.foreigns = prometheus.NewCounter(counter("events_foreign_app_total", "Events that were refused because another app signed them than the one the company is connected to; each company and app gets one dead letter a day."))
	c.roomless = prometheus.NewCounterVec(counter("events_unlettered_total", "Events that should have become dead letters and for which there was no room; a scan tries them again."), []string{"reason"})
	c.left = prometheus.NewCounterVec(counter("events_left_to_scans_total", "Events that a sink did not take and its full retry queue did not either; a scan finds their changes."), []string{"sink"})
	c.lagging = prometheus.NewGaugeVec(gauge("sink_behind", "Entities of companies of which the sink did not get changes that no queue holds; their scans start once it is back."), []string{"sink"})
	c.failing = prometheus.NewGaugeVec(gauge("sink_failing", "1 while the sink is down, by what the last write failed with, such as SQLSTATE 25006, HTTP 503 or timeout."), []string{"sink", "reason"})
	if r != nil {
		r.MustRegister(c.strangers, c.foreigns, c.roomless, c.left, c.lagging, c.failing)
		for _, out := range outputs {
			if s, ok := ability[sanitizer](out.Sink); ok {
				r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
					Namespace: space, Subsystem: part, Name: "sanitized_total", ConstLabels: prometheus.Labels{"sink": out.Name()},
					Help: "Documents that were written with characters replaced that the sink cannot hold.",
				}, func() float64 { return float64(s.Sanitized()) }))
			}
			r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: space, Subsystem: part, Name: "sink_state", ConstLabels: prometheus.Labels{"sink": out.Name()},
				Help: "The circuit breaker of the sink: 0 writes go through, 1 one is tried, 2 none, 3 it is paused.",
			}, out.state))
		}
		r.MustRegister(c.waits, c.steps, c.tries, c.stales, c.filters, c.oldest, c.backlog, c.parcels, c.waiting, c.newer, c.follows)
		r.MustRegister(c.deliveries, c.latency, c.writes, c.duplicates, c.deaths, c.parkings, c.calls, c.ids,
			c.retries, c.putOffs, inHandGauge)
	}
	return c
}

// Stats returns a copy of the counts.
func (p *Processor) Stats() Stats {
	p.count.mu.Lock()
	defer p.count.mu.Unlock()
	s := p.count.stats
	s.Delivered, s.Written = maps.Clone(s.Delivered), maps.Clone(s.Written)
	return s
}

func (c *counters) update(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

func (c *counters) delivered(change *ledgerfeedv1.Change, now time.Time) {
	c.update(func(s *Stats) {
		s.Delivered[change.GetSource()]++
		if change.GetDeleted() {
			s.Tombstones++
		}
	})
	source := sink.Learned(change.GetSource())
	c.deliveries.WithLabelValues(source, change.GetEntity()).Inc()
	if change.GetLearnedAt() != nil {
		c.latency.WithLabelValues(source).Observe(now.Sub(change.GetLearnedAt().AsTime()).Seconds())
	}
}

func (c *counters) written(name string, changes []*ledgerfeedv1.Change) {
	c.update(func(s *Stats) { s.Written[name] += int64(len(changes)) })
	c.writes.WithLabelValues(name).Add(float64(len(changes)))
}

func (c *counters) duplicate() {
	c.update(func(s *Stats) { s.Duplicates++ })
	c.duplicates.Inc()
}

func (c *counters) dead(reason stream.Reason, n int) {
	c.update(func(s *Stats) { s.Dead += int64(n) })
	c.deaths.WithLabelValues(string(reason)).Add(float64(n))
}

func (c *counters) parked(n int) {
	c.update(func(s *Stats) { s.Parked += int64(n) })
	c.parkings.Add(float64(n))
}

func (c *counters) call(kind string, ids int, err error) {
	c.update(func(s *Stats) { s.Calls++ })
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	c.calls.WithLabelValues(kind, outcome).Inc()
	if kind == "query" && ids > 0 {
		c.ids.Observe(float64(ids))
	}
}

// waited observes, for each record, how long it was on its way to the batch.
func (c *counters) waited(b *batch, now time.Time) {
	for _, it := range b.all {
		c.waits.Observe(now.Sub(earliest(it.units).received()).Seconds())
	}
}

func (c *counters) step(name string, took time.Duration) {
	c.steps.WithLabelValues(name).Observe(took.Seconds())
}

func (c *counters) wrote(name string, err error, took time.Duration) {
	c.tries.WithLabelValues(name, outcomeOf(err)).Observe(took.Seconds())
}

func outcomeOf(err error) string {
	var partial *sink.PartialError
	_, permanent := stream.AsPermanent(err)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errSinkDown):
		return "down"
	case errors.As(err, &partial):
		return "partial"
	case permanent:
		return "refused"
	}
	return "failed"
}

func (c *counters) stale(name string) { c.stales.WithLabelValues(name).Inc() }

func (c *counters) filtered(name string) { c.filters.WithLabelValues(name).Inc() }

func (c *counters) retry(name string, n int) { c.retries.WithLabelValues(name).Add(float64(n)) }

func (c *counters) unconnected(n int) { c.strangers.Add(float64(n)) }

func (c *counters) foreign(n int) { c.foreigns.Add(float64(n)) }

func (c *counters) unlettered(reason stream.Reason, n int) {
	c.roomless.WithLabelValues(string(reason)).Add(float64(n))
}

func (c *counters) behind(name string, n int) { c.left.WithLabelValues(name).Add(float64(n)) }

func (c *counters) putOff() { c.putOffs.Inc() }

func (c *counters) followUps(all []state.FollowUp) {
	for _, f := range all {
		c.follows.WithLabelValues(string(f.Kind)).Inc()
	}
}
