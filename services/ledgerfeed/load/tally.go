package load

import (
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// A request that was sent as late as possible and then timed out.
	mostLatency = 2 * mostTimeout
	digits      = 3
	shards      = 16 // a histogram for each of 20,000 workers would be 3 GB
)

// tally counts what many workers measure between start and end.
type tally struct {
	start, end time.Time
	shards     [shards]shard
}

type shard struct {
	mu       sync.Mutex // guards what follows
	due      *hdrhistogram.Histogram
	sent     *hdrhistogram.Histogram
	outcomes map[outcome]int64
	late     int64
	inTime   int64 // answers 200 that came in the measured time, also to requests that were due before
	lastErr  error
}

// request is what a worker measured.
type request struct {
	outcome             outcome
	err                 error
	due, sent, answered time.Time
	late                bool
}

func newTally(start, end time.Time) *tally {
	t := &tally{start: start, end: end}
	for i := range t.shards {
		t.shards[i] = shard{due: newHistogram(), sent: newHistogram(), outcomes: map[outcome]int64{}}
	}
	return t
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, mostLatency.Microseconds(), digits)
}

func (t *tally) add(worker int, r request) {
	s := &t.shards[worker%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.outcome == http.StatusOK && !r.answered.Before(t.start) && r.answered.Before(t.end) {
		s.inTime++
	}
	if r.due.Before(t.start) {
		return
	}
	s.outcomes[r.outcome]++
	record(s.due, r.answered.Sub(r.due))
	if !r.outcome.unsent() {
		record(s.sent, r.answered.Sub(r.sent))
	}
	if r.late {
		s.late++
	}
	if r.err != nil {
		s.lastErr = r.err
	}
}

// record cannot fail: the value is clamped to the histogram's range.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(max(1, min(d.Microseconds(), mostLatency.Microseconds())))
}

// report sums up what was measured until now or the end.
func (t *tally) report(now time.Time) Report {
	if now.After(t.end) {
		now = t.end
	}
	due, sent := newHistogram(), newHistogram()
	r := Report{Statuses: map[string]int64{}, Seconds: max(0, now.Sub(t.start).Seconds())}
	inTime := int64(0)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		due.Merge(s.due)
		sent.Merge(s.sent)
		inTime += s.inTime
		r.Late += s.late
		for o, n := range s.outcomes {
			r.Statuses[o.String()] += n
			r.Offered += n
			if !o.unsent() {
				r.Sent += n
			}
		}
		if s.lastErr != nil {
			r.LastError = s.lastErr.Error()
		}
		s.mu.Unlock()
	}
	r.Answered = r.Statuses["200"]
	r.Failed = r.Offered - r.Answered
	if r.Seconds > 0 {
		r.RPS = float64(inTime) / r.Seconds
	}
	r.Latency, r.Service = latency(due), latency(sent)
	return r
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	return Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: time.Duration(h.Max()) * time.Microsecond}
}
