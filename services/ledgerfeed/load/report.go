package load

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run has measured. Latencies count from when a request was due
// (open loop) to its whole answer, whatever that was.
type Report struct {
	Offered  int64            // requests that were due in the measured time
	Answered int64            // of those, answered 200
	Failed   int64            // answered otherwise, not answered, or not sent at all
	Statuses map[string]int64 // by status ("200"), "timeout", "no connection" or "not sent"
	Late     int64            // sent more than 10 ms after they were due though a connection was free
	Seconds  float64          // measured time
	RPS      float64          // Answered a second

	P50, P90, P99, P999, Max time.Duration
	// ServiceP50 and ServiceP99 count from when a request was really sent.
	ServiceP50, ServiceP99 time.Duration
}

const (
	mostLatency = 2 * time.Minute
	digits      = 3
	shards      = 16
)

// tally counts what many workers measure.
type tally struct {
	shards  [shards]shard
	started time.Time // of the measured time
}

type shard struct {
	mu       sync.Mutex // guards what follows
	due      *hdrhistogram.Histogram
	sent     *hdrhistogram.Histogram
	statuses map[string]int64
	late     int64
	last     time.Time
}

func newTally(started time.Time) *tally {
	t := &tally{started: started}
	for i := range t.shards {
		t.shards[i].due, t.shards[i].sent = newHistogram(), newHistogram()
		t.shards[i].statuses = map[string]int64{}
	}
	return t
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, mostLatency.Microseconds(), digits)
}

func (t *tally) add(worker int, status string, due, sent, answered time.Time, late bool) {
	s := &t.shards[worker%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[status]++
	record(s.due, answered.Sub(due))
	record(s.sent, answered.Sub(sent))
	if late {
		s.late++
	}
	if answered.After(s.last) {
		s.last = answered
	}
}

// record cannot fail: the value is clamped to the histogram's range.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(max(1, min(d.Microseconds(), mostLatency.Microseconds())))
}

// report sums the shards up; measured is the time the answers came in.
func (t *tally) report(measured time.Duration) Report {
	due, sent := newHistogram(), newHistogram()
	r := Report{Statuses: map[string]int64{}, Seconds: measured.Seconds()}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		due.Merge(s.due)
		sent.Merge(s.sent)
		r.Late += s.late
		for status, n := range s.statuses {
			r.Statuses[status] += n
			r.Offered += n
		}
		s.mu.Unlock()
	}
	r.Answered = r.Statuses["200"]
	r.Failed = r.Offered - r.Answered
	if measured > 0 {
		r.RPS = float64(r.Answered) / measured.Seconds()
	}
	at := func(h *hdrhistogram.Histogram, q float64) time.Duration {
		return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
	}
	r.P50, r.P90, r.P99, r.P999 = at(due, 50), at(due, 90), at(due, 99), at(due, 99.9)
	r.Max = time.Duration(due.Max()) * time.Microsecond
	r.ServiceP50, r.ServiceP99 = at(sent, 50), at(sent, 99)
	return r
}

// MarshalJSON writes latencies in milliseconds: {"offered","answered","failed",
// "statuses","late","seconds","rps","p50_ms","p90_ms","p99_ms","p999_ms",
// "max_ms","service_p50_ms","service_p99_ms"}.
func (r Report) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(struct {
		Offered    int64            `json:"offered"`
		Answered   int64            `json:"answered"`
		Failed     int64            `json:"failed"`
		Statuses   map[string]int64 `json:"statuses"`
		Late       int64            `json:"late"`
		Seconds    float64          `json:"seconds"`
		RPS        float64          `json:"rps"`
		P50        float64          `json:"p50_ms"`
		P90        float64          `json:"p90_ms"`
		P99        float64          `json:"p99_ms"`
		P999       float64          `json:"p999_ms"`
		Max        float64          `json:"max_ms"`
		ServiceP50 float64          `json:"service_p50_ms"`
		ServiceP99 float64          `json:"service_p99_ms"`
	}{
		r.Offered, r.Answered, r.Failed, r.Statuses, r.Late, r.Seconds, r.RPS,
		ms(r.P50), ms(r.P90), ms(r.P99), ms(r.P999), ms(r.Max), ms(r.ServiceP50), ms(r.ServiceP99),
	})
}
