package load

import (
	"encoding/json"
	"time"
)

// Report is what a run has measured.
type Report struct {
	// Offered are the requests that were due in the measured time; the others
	// count those of them that were sent, answered 200, and not.
	Offered, Sent, Answered, Failed int64
	// Statuses counts Offered by status ("200", "503"), or by what came instead:
	// "timeout", "refused", "no connection", "broken" (the connection ended
	// without an answer), "not sent" (no connection became free in time).
	Statuses map[string]int64
	// Late were sent more than 10 ms after they were due although a connection
	// was free: the generator got no processor time. A run with many is not valid.
	Late    int64
	Seconds float64 // measured time
	RPS     float64 // answers 200 that came in the measured time, a second
	// Latency counts from when a request was due (open loop) to its whole answer
	// or failure, whatever that was.
	Latency
	// Service counts from when it was really sent. It is what a load generator
	// reports that is not open loop.
	Service   Latency
	LastError string // of those without an answer; empty if there is none
}

// Latency is a distribution.
type Latency struct{ P50, P90, P99, P999, Max time.Duration }

// MarshalJSON writes {"offered","sent","answered","failed","statuses","late",
// "seconds","rps","p50_ms","p90_ms","p99_ms","p999_ms","max_ms","service":
// {"p50_ms",…},"last_error"}; latencies are in milliseconds.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Offered  int64            `json:"offered"`
		Sent     int64            `json:"sent"`
		Answered int64            `json:"answered"`
		Failed   int64            `json:"failed"`
		Statuses map[string]int64 `json:"statuses"`
		Late     int64            `json:"late"`
		Seconds  float64          `json:"seconds"`
		RPS      float64          `json:"rps"`
		latencyJSON
		Service   latencyJSON `json:"service"`
		LastError string      `json:"last_error,omitempty"`
	}{
		r.Offered, r.Sent, r.Answered, r.Failed, r.Statuses, r.Late, r.Seconds, r.RPS,
		r.inMS(), r.Service.inMS(), r.LastError,
	})
}

type latencyJSON struct {
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

func (l Latency) inMS() latencyJSON {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return latencyJSON{ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max)}
}
