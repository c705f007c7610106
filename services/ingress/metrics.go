package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	latency *prometheus.HistogramVec
	events  *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	dead    *prometheus.CounterVec
	tokens  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, inFlight func() float64) *metrics {
	m := &metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ledgerfeed_ingress_answer_seconds",
			Help:    "From the headers of a request to its answer, by app and outcome.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 2.5, 3},
		}, []string{"app", "outcome"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_ingress_events_total", Help: "Events stored, by app and format.",
		}, []string{"app", "format"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_ingress_body_bytes_total", Help: "Bytes of bodies read.",
		}, []string{"app"}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_ingress_unreadable_total", Help: "Signed bodies and items that could not be read and went to the dead letters.",
		}, []string{"app"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_ingress_token_matches_total", Help: "Signatures that fit, by the number of the verifier token in the app's list, from 1. A token that no longer counts can go.",
		}, []string{"app", "token"}),
	}
	r.MustRegister(m.latency, m.events, m.bytes, m.dead, m.tokens, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ledgerfeed_ingress_in_flight", Help: "Requests being worked on.",
	}, inFlight))
	return m
}

func (m *metrics) answered(app, outcome string, took time.Duration) {
	m.latency.WithLabelValues(app, outcome).Observe(took.Seconds())
}

func (m *metrics) token(app string, index int) {
	m.tokens.WithLabelValues(app, strconv.Itoa(index+1)).Inc()
}
