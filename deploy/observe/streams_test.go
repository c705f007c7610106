package observe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

// Every stream that refuses messages when it is full is alerted at half and at 80 %, by
// name; the two that discard their oldest messages may be full.
func TestAlerts_FireForAStreamThatFillsUp(t *testing.T) {
	const half, nearly = "LedgerfeedStreamHalfFull", "LedgerfeedStreamNearlyFull"
	for _, tc := range []struct {
		stream string
		bytes  float64
		max    float64
		fires  []string
	}{
		{"LF_EVENTS", 49, 100, nil},
		{"LF_EVENTS", 51, 100, []string{half}},
		{"LF_RETRY", 79, 100, []string{half}},
		{"LF_RETRY", 81, 100, []string{half, nearly}},
		{"LF_DEAD", 100, 100, []string{half, nearly}},
		{"LF_DEAD", 81, 200, nil}, // the limit was raised
		{"LF_DEAD", 81, -1, nil},  // there is none
		{"LF_CHANGES", 100, 100, nil},
		{"LF_GAPS", 100, 100, nil},
	} {
		t.Run(fmt.Sprintf("%s %v of %v", tc.stream, tc.bytes, tc.max), func(t *testing.T) {
			f := &feed{T: t, storage: teststorage.New(t), now: time.Now()}
			f.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
			t.Cleanup(func() { require.NoError(t, f.engine.Close()) })
			appender := f.storage.Appender(t.Context())
			for _, instance := range []string{"processor-1", "processor-2"} { // replicas read the same
				for name, value := range map[string]float64{"ledgerfeed_stream_bytes": tc.bytes, "ledgerfeed_stream_max_bytes": tc.max} {
					_, err := appender.Append(0, labels.FromStrings("__name__", name, "instance", instance, "stream", tc.stream), f.now.UnixMilli(), value)
					require.NoError(t, err)
				}
			}
			require.NoError(t, appender.Commit())
			var fires []string
			for _, r := range rules(t) {
				if !strings.HasPrefix(r.Alert, "LedgerfeedStream") {
					continue
				}
				if found := f.ask(r.Expr); len(found) > 0 {
					require.Len(t, found, 1)
					require.Equal(t, tc.stream, found[0].Metric.Get("stream"))
					fires = append(fires, r.Alert)
				}
			}
			require.Equal(t, tc.fires, fires)
		})
	}
}
