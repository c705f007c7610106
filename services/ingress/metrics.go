package ingress

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the ingress counts. Labels are bounded: apps and tokens are
// those of the configuration, never what a stranger sent.
type metrics struct {
	requests *prometheus.CounterVec // app, outcome
	tokens   *prometheus.CounterVec // app, token
	events   *prometheus.CounterVec // app
	dead     *prometheus.CounterVec // app
	bytes    *prometheus.CounterVec // app
	// misdirected are signed by an app, and were sent elsewhere.
	misdirected *prometheus.CounterVec // app
	strangers   *prometheus.CounterVec // limit
	ack         prometheus.Histogram
	inFlight    prometheus.Gauge
	memory      prometheus.Gauge
	reloads     *prometheus.CounterVec // outcome
	lastRead    prometheus.Gauge
	expiry      prometheus.Gauge
	accepted    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ledgerfeed_ingress_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "ledgerfeed_ingress_" + name, Help: help})
	}
	m := &metrics{
		requests:    counter("requests_total", "Requests by app (empty if unknown) and how they ended.", "app", "outcome"),
		tokens:      counter("token_matches_total", "Signatures that fit, by the number of the verifier token in the app's list, from 1; from 0 again when the list has changed. A token that no longer counts can go.", "app", "token"),
		events:      counter("events_total", "Events stored.", "app"),
		dead:        counter("dead_letters_total", "Signed bodies and items that could not be read and were stored as dead letters.", "app"),
		bytes:       counter("body_bytes_total", "Bytes of the bodies stored.", "app"),
		misdirected: counter("misdirected_total", "Webhooks signed by the app that were sent to an unknown app or path: its URL in Intuit's portal is wrong. At most one a second is checked.", "app"),
		strangers:   counter("strangers_refused_total", "Connections, requests and reservations of bytes that were refused because their address, or all that send no signed webhooks, had their share (ingress.stranger_percent).", "limit"),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ledgerfeed_ingress_ack_seconds",
			Help:    "From the headers of a request to its 200. Intuit waits 3 seconds.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 2.5, 3},
		}),
		inFlight: gauge("in_flight", "Requests being worked on."),
		memory:   gauge("in_flight_bytes", "Memory reserved for bodies, in bytes."),
		reloads:  counter("reloads_total", "Readings of tokens and certificate after the start: applied, or refused (what was there stays).", "outcome"),
		lastRead: gauge("last_reload_timestamp_seconds", "When tokens and certificate were last read and applied, at the start or after it, in Unix seconds."),
		expiry:   gauge("certificate_expiry_timestamp_seconds", "When the certificate expires, in Unix seconds; 0 without TLS of its own."),
		accepted: gauge("certificate_accepted", "1 if Intuit accepts the certificate: valid, not self-signed, with its whole chain; 0 if not, or without TLS of its own."),
	}
	for _, o := range []string{reloadApplied, reloadRefused} {
		m.reloads.WithLabelValues(o)
	}
	for _, limit := range []usage{{connections: 1}, {requests: 1}, {bytes: 1}} {
		m.strangers.WithLabelValues(limit.kind())
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.tokens, m.events, m.dead, m.bytes, m.misdirected, m.strangers, m.ack, m.inFlight, m.memory, m.reloads, m.lastRead, m.expiry, m.accepted,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

const (
	reloadApplied = "applied"
	reloadRefused = "refused"
)

// follow makes the series of apps: one that is there from the start shows its
// first step in a rate. The numbers of tokens mean the present list, so those of
// an app whose list has changed begin anew.
func (m *metrics) follow(apps, before map[string]*app) {
	for name := range before {
		if apps[name] == nil || !slices.Equal(apps[name].tokens, before[name].tokens) {
			m.tokens.DeletePartialMatch(prometheus.Labels{"app": name})
		}
	}
	for name, a := range apps {
		for _, o := range []outcome{stored, unavailable, overloaded, badSignature} {
			m.requests.WithLabelValues(name, string(o))
		}
		for _, c := range []*prometheus.CounterVec{m.events, m.dead, m.bytes, m.misdirected} {
			c.WithLabelValues(name)
		}
		a.matches = nil
		for i := range a.tokens {
			a.matches = append(a.matches, m.tokens.WithLabelValues(name, strconv.Itoa(i+1)))
		}
	}
}

// answered counts a request at its end; a is nil if it named no app we know.
func (m *metrics) answered(a *app, o outcome, took time.Duration) {
	m.requests.WithLabelValues(a.label(), string(o)).Inc()
	if o == stored {
		m.ack.Observe(took.Seconds())
	}
}

// kept counts what was stored of a request.
func (m *metrics) kept(r *request) {
	m.events.WithLabelValues(r.app.name).Add(float64(r.tally.events))
	m.dead.WithLabelValues(r.app.name).Add(float64(r.tally.dead))
	m.bytes.WithLabelValues(r.app.name).Add(float64(r.bytes))
}
