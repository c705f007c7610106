package stream

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// metrics are what a connection counts.
type metrics struct {
	batchSize  prometheus.Histogram
	batches    *prometheus.CounterVec // outcome
	durability *prometheus.GaugeVec   // profile
	bytes      *prometheus.GaugeVec   // stream
	maxBytes   *prometheus.GaugeVec   // stream
	drifted    *prometheus.GaugeVec   // stream and field
	consumers  *prometheus.GaugeVec   // consumer and field
}

func newMetrics() *metrics {
	m := &metrics{
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ledgerfeed_stream_batch_messages",
			Help:    "Messages of each atomic batch the broker took: they shared one sync to disk. Messages that went out for themselves are not in it.",
			Buckets: []float64{10, 20, 50, 100, 200, 500, 1000},
		}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledgerfeed_stream_batches_total",
			Help: "Atomic batches by outcome: committed; duplicate (a message was there already: sent again in halves); refused (sent again one by one); unanswered.",
		}, []string{"outcome"}),
		durability: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledgerfeed_stream_durable",
			Help: "1 if the broker keeps what the profile promises, 0 if it keeps less or does not say and that was allowed.",
		}, []string{"profile"}),
		bytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledgerfeed_stream_bytes",
			Help: "Bytes that a stream holds; each processor reads it every 10 seconds.",
		}, []string{"stream"}),
		maxBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledgerfeed_stream_max_bytes",
			Help: "Bytes that a stream may hold, -1 without a limit; each processor reads it every 10 seconds.",
		}, []string{"stream"}),
	}
	m.drifted = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ledgerfeed_stream_drift",
		Help: "1 for each setting of a stream that differs from the configuration; compared every five minutes.",
	}, []string{"stream", "field"})
	m.consumers = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ledgerfeed_stream_consumer_drift",
		Help: "1 for each setting of a consumer of ours that differs from the configuration, or is missing; compared every five minutes.",
	}, []string{"consumer", "field"})
	for _, o := range []string{batchCommitted, batchDuplicate, batchRefused, batchUnanswered} {
		m.batches.WithLabelValues(o)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Register(m.batchSize), r.Register(m.batches), r.Register(m.durability), r.Register(m.bytes), r.Register(m.maxBytes), r.Register(m.drifted), r.Register(m.consumers))
}

const (
	batchCommitted  = "committed"
	batchDuplicate  = "duplicate"
	batchRefused    = "refused"
	batchUnanswered = "unanswered"
)

// committed counts a batch of n messages by what came of it.
func (m *metrics) committed(n int, err error) {
	var api *jetstream.APIError
	switch {
	case err == nil:
		m.batchSize.Observe(float64(n))
		m.batches.WithLabelValues(batchCommitted).Inc()
	case !errors.As(err, &api):
		m.batches.WithLabelValues(batchUnanswered).Inc()
	case api.ErrorCode == jetstreamext.JSErrCodeBatchPublishDuplicateMsgID:
		m.batches.WithLabelValues(batchDuplicate).Inc()
	default:
		m.batches.WithLabelValues(batchRefused).Inc()
	}
}

func (m *metrics) durable(d Durability) {
	ok := 0.0
	if len(d.Problems) == 0 {
		ok = 1
	}
	m.durability.WithLabelValues(string(d.Profile)).Set(ok)
}

func (m *metrics) usage(all []Usage) {
	for _, u := range all {
		m.bytes.WithLabelValues(u.Stream).Set(float64(u.Bytes))
		m.maxBytes.WithLabelValues(u.Stream).Set(float64(u.MaxBytes))
	}
}
