package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/dev"
)

// feed is a running `ledgerfeed dev`, scraped into Prometheus' own storage.
type feed struct {
	*testing.T
	url     string
	storage *teststorage.TestStorage
	engine  *promql.Engine
	now     time.Time // of the last scrape
}

// said is what dev prints.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var metricsLine = regexp.MustCompile(`(?m)^metrics +(\S+)$`)

func startFeed(t *testing.T) *feed {
	t.Helper()
	var out said
	o := dev.DefaultOptions()
	o.DataDir, o.Listen, o.MetricsListen = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	o.Rate, o.Drop, o.ReconcileEvery, o.Stdout, o.Stderr = 10, 0.1, time.Second, &out, io.Discard
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	f := &feed{T: t, storage: teststorage.New(t), now: time.Now()}
	f.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { require.NoError(t, f.engine.Close()) })
	require.Eventually(t, func() bool {
		if m := metricsLine.FindStringSubmatch(out.String()); m != nil {
			f.url = m[1]
		}
		return f.url != "" && strings.Contains(out.String(), "first change delivered")
	}, time.Minute, 50*time.Millisecond)
	return f
}

// scrape stores what the feed says now as of 15 s after the last time.
func (f *feed) scrape() {
	f.Helper()
	f.now = f.now.Add(15 * time.Second)
	resp, err := http.Get(f.url)
	require.NoError(f, err)
	defer resp.Body.Close()
	decoder := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	samples := expfmt.SampleDecoder{Dec: decoder, Opts: &expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(f.now.UnixNano())}}
	appender := f.storage.Appender(f.Context())
	for {
		var v model.Vector
		if err := samples.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(f, err)
		}
		for _, s := range v {
			b := labels.NewScratchBuilder(8)
			b.Add("job", "ledgerfeed")
			b.Add("instance", "dev")
			for name, value := range s.Metric {
				b.Add(string(name), string(value))
			}
			b.Sort()
			_, err := appender.Append(0, b.Labels(), int64(s.Timestamp), float64(s.Value))
			require.NoError(f, err)
		}
	}
	require.NoError(f, appender.Commit())
}

// ask evaluates an expression at the time of the last scrape.
func (f *feed) ask(expr string) promql.Vector {
	f.Helper()
	expr = strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m").Replace(expr)
	q, err := f.engine.NewInstantQuery(f.Context(), f.storage, nil, expr, f.now)
	require.NoError(f, err, expr)
	defer q.Close()
	r := q.Exec(f.Context())
	require.NoError(f, r.Err, expr)
	v, err := r.Vector()
	require.NoError(f, err, expr)
	return v
}

// quiet are the panels about what a feed of some seconds does not have: dead letters,
// gaps with a verdict, and what only the services as processes of their own report.
var quiet = []string{"Dead letters by reason", "Gaps by verdict", "Month's calls and forecast", "Companies by state"}

// With the metrics of a running feed every expression can be evaluated, no alert would
// fire of what is well, and the panels of the dashboard have something to show.
func TestExpressions_OnTheMetricsOfARunningFeed(t *testing.T) {
	f := startFeed(t)
	f.scrape()
	var empty []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		time.Sleep(500 * time.Millisecond)
		f.scrape()
		empty = nil
		for _, p := range panels(t) {
			if len(f.ask(p.expr)) == 0 && !slices.Contains(quiet, p.title) {
				empty = append(empty, p.title+": "+p.expr)
			}
		}
		if len(empty) == 0 {
			break
		}
	}
	require.Empty(t, empty, "panels with nothing to show")
	for _, r := range rules(t) {
		found := f.ask(r.Expr)
		// An alert that waits does not fire of what is over by then, as on a busy machine.
		for end := f.now.Add(time.Duration(r.For)); len(found) > 0 && f.now.Before(end); found = f.ask(r.Expr) {
			time.Sleep(500 * time.Millisecond)
			f.scrape()
		}
		require.Empty(t, found, "%s fires", r.Alert)
	}
}

type panel struct{ title, expr string }

func panels(t *testing.T) (all []panel) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(read(t, "prometheus", "dashboards", "ledgerfeed.json"), &board))
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, panel{p.Title, target.Expr})
		}
	}
	require.NotEmpty(t, all)
	return all
}
