package processor_test

import (
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

var soak = flag.Duration("soak", 6*time.Second, "how long TestSoak loads a processor with a stuck sink; 10m for figures that count")

// I9: memory and goroutines are flat while one sink takes nothing and the other goes
// on, for as long as one likes to wait. The processor is a process of its own.
func TestSoak(t *testing.T) {
	b := setup(t)
	b.clock.now = time.Now()
	enough := make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-enough }))
	t.Cleanup(func() {
		close(enough)
		stuck.Close()
	})
	s := newService(t, b)
	admin := freeAddress(t)
	s.env = []string{
		"LEDGERFEED_PROCESSOR_SINKS=file=jsonl:" + s.path + ",hook=webhook:" + stuck.URL,
		"LEDGERFEED_PROCESSOR_WEBHOOK_SECRETS=hook=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"LEDGERFEED_PROCESSOR_WEBHOOK_ALLOW=127.0.0.0/8", "LEDGERFEED_PROCESSOR_WRITE_TIMEOUT=2s",
		"LEDGERFEED_ADMIN_LISTEN=" + admin,
	}
	kill := s.start(t)
	require.Eventually(t, func() bool { _, err := scrape(admin); return err == nil }, patient, 10*time.Millisecond)
	load := (&setting{bundle: b}).load()

	gauges := map[string]float64{ // with how much more each may be in the last third than in the middle one
		"process_resident_memory_bytes":         8 << 20,
		"go_goroutines":                         150, // as many come and go with the batches; a leak is thousands in ten minutes
		"process_open_fds":                      20,
		"ledgerfeed_processor_messages_in_hand": 100,
	}
	samples := map[string][]float64{}
	tick := time.NewTicker(*soak / 60)
	defer tick.Stop()
	for range 60 {
		<-tick.C
		now, err := scrape(admin)
		require.NoError(t, err)
		for name := range gauges {
			require.Contains(t, now, name)
			samples[name] = append(samples[name], now[name])
		}
	}
	load.stop()
	for name, slack := range gauges {
		middle, end := medianOf(samples[name][20:40]), medianOf(samples[name][40:])
		t.Logf("%s: %.0f, then %.0f", name, middle, end)
		if *soak >= time.Minute { // before, memory is still on its way to where it stays
			require.LessOrEqual(t, end, middle+slack, name)
		}
	}
	t.Logf("in %s, %d events told of, %d records delivered", *soak, b.sim.Stats().WebhookEvents, len(s.snapshot(t)))
	require.NotEmpty(t, s.snapshot(t), "the other sink goes on")
	kill()

	s.env[0] = "LEDGERFEED_PROCESSOR_SINKS=file=jsonl:" + s.path
	s.finish(t)
}

func medianOf(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// scrape are the gauges of a process, the first of each name.
func scrape(address string) (map[string]float64, error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	gauges := map[string]float64{}
	for name, f := range families {
		gauges[name] = f.GetMetric()[0].GetGauge().GetValue()
	}
	return gauges, err
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
