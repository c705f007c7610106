package load_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

func TestMain(m *testing.M) {
	// Ends by itself some seconds after the last connection.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// options sends to a server of the test.
func options(url string) load.Options {
	o := load.DefaultOptions()
	o.URL, o.Token = url+"/webhooks/dev", "token"
	return o
}

func TestRun_SendsSignedBodiesThatAllDiffer(t *testing.T) {
	for _, format := range []webhook.Format{webhook.CloudEvents, webhook.Legacy} {
		t.Run(string(format), func(t *testing.T) {
			var mu sync.Mutex
			seen := map[string]bool{}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err == nil {
					_, err = webhook.Verify(body, r.Header.Get("intuit-signature"), []secret.String{"token"})
				}
				n, perr := webhook.Parse(body)
				realms := map[string]bool{}
				for _, e := range n.Events {
					realms[e.RealmID] = true
				}
				if err != nil || perr != nil || len(n.Events) != 7 || len(realms) != 3 || n.Format != format || len(n.Rejected) > 0 {
					http.Error(w, "not as expected", http.StatusBadRequest)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[string(body)] = true
			}))
			t.Cleanup(s.Close)
			o := options(s.URL)
			o.Rate, o.Duration, o.Events, o.Realms, o.Format = 200, 500*time.Millisecond, 7, 3, format
			r, err := load.Run(t.Context(), o)
			require.NoError(t, err)
			require.EqualValues(t, 100, r.Offered)
			require.EqualValues(t, 100, r.Answered, r.Statuses)
			require.Len(t, seen, 100)
		})
	}
}

// A server that stalls once is charged for every request that was due while it
// stalled: that is what a sender would have seen. A closed loop sends nothing
// meanwhile and so hides the stall.
func TestRun_AStallCountsForAllThatWereDue(t *testing.T) {
	const stall = 600 * time.Millisecond
	server := func() string {
		var once sync.Once
		var mu sync.Mutex
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			once.Do(func() { time.Sleep(stall) })
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, poisson := range map[string]bool{"constant rate": false, "poisson": true} {
		o := options(server())
		o.Rate, o.Connections, o.Duration, o.Poisson = 200, 2, time.Second, poisson
		o.RunID = 1 // the same gaps each time: of others, half may be due after the stall
		r, err := load.Run(t.Context(), o)
		require.NoError(t, err)
		require.InDelta(t, 200, r.Answered, 60, name)
		require.Equal(t, r.Offered, r.Answered, name)
		require.Greater(t, r.P50, stall/20, "%s: six in ten requests were due during the stall", name)
		require.Greater(t, r.P90, stall/2, "%s: and one in five more than %s before its end", name, stall/2)
		require.GreaterOrEqual(t, r.Max, stall-50*time.Millisecond, name)
		require.Less(t, r.Service.P90, stall/2, "%s: though the server kept only two of them waiting", name)
	}

	o := options(server())
	o.Rate, o.Connections, o.Duration = 0, 2, time.Second
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.Less(t, r.P90, stall/2)
	require.GreaterOrEqual(t, r.Max, stall)
}

// Request k is never sent before it is due, and all of them are: together that
// is the rate.
func TestRun_KeepsTheRate(t *testing.T) {
	var mu sync.Mutex
	var arrived []time.Time
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		arrived = append(arrived, time.Now())
	}))
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Warmup, o.Duration = 400, 250*time.Millisecond, time.Second
	began := time.Now()
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 400, r.Offered, "the warm-up does not count")
	require.EqualValues(t, 400, r.Answered)
	require.EqualValues(t, 400, r.Sent)
	require.InDelta(t, 1, r.Seconds, 1e-9)
	require.Len(t, arrived, 500)
	for k, at := range arrived {
		require.GreaterOrEqual(t, at.Sub(began), time.Duration(k)*2500*time.Microsecond, k)
	}
}

func TestRun_CountsWhatWentWrong(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration = 0, 2, 200*time.Millisecond
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.Zero(t, r.Answered)
	require.Zero(t, r.RPS)
	require.Positive(t, r.Failed)
	require.Equal(t, r.Failed, r.Statuses["503"])
	require.Equal(t, r.Failed, r.Sent)
	require.Empty(t, r.LastError)

	s.Close()
	o.Duration = time.Hour
	_, err = load.Run(t.Context(), o)
	require.ErrorIs(t, err, load.ErrUnreachable)
	require.ErrorContains(t, err, "refused")
}

// A server that ends does not get a storm of connections, and does not end the run.
func TestRun_GoesOnWhenTheServerEnds(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.Listener.Close()
		w.Header().Set("Connection", "close")
	})
	s.Start()
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration = 0, 2, 500*time.Millisecond
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.Positive(t, r.Statuses["refused"])
	require.LessOrEqual(t, r.Statuses["refused"], int64(22), "one in 50 ms and connection")
	require.Contains(t, r.LastError, "refused")
	// A connection that the closing listener had not accepted is reset, not refused.
	require.Equal(t, r.Offered-r.Statuses["refused"]-r.Statuses["no connection"], r.Sent)
}

func TestRun_TakesAnyCertificateOnlyIfTold(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the certificate that was refused
	s.StartTLS()
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Duration = 100 * time.Millisecond
	_, err := load.Run(t.Context(), o)
	require.ErrorIs(t, err, load.ErrUnreachable)
	require.ErrorContains(t, err, "certificate")

	o.InsecureTLS = true
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 10, r.Answered)
}

func TestRun_WhatNobodyAnswersTimesOut(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(stop) })
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration, o.Timeout = 100, 1, 300*time.Millisecond, 100*time.Millisecond
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 30, r.Offered)
	require.Positive(t, r.Statuses["timeout"], "%v %s", r.Statuses, r.LastError)
	require.Positive(t, r.Statuses["not sent"], "one connection cannot even send them all")
	require.EqualValues(t, 30, r.Failed)
	require.Equal(t, r.Statuses["timeout"], r.Sent)
	require.GreaterOrEqual(t, r.P50, o.Timeout)
}

func TestRun_EndsWithTheContext(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(r load.Report) {
		if r.Answered > 0 {
			cancel()
		}
	}
	r, err := load.Run(ctx, o)
	require.NoError(t, err)
	require.Positive(t, r.Answered)
	require.Less(t, r.Seconds, time.Minute.Seconds())
	require.InEpsilon(t, float64(r.Answered)/r.Seconds, r.RPS, 0.2)
}

func TestOptions_NameWhatIsWrong(t *testing.T) {
	for field, change := range map[string]func(*load.Options){
		"url is ftp":                func(o *load.Options) { o.URL = "ftp://127.0.0.1/" },
		"it is not on this machine": func(o *load.Options) { o.URL = "http://192.0.2.1/webhooks/x" },
		"token is empty":            func(o *load.Options) { o.Token = "" },
		"rate is -1":                func(o *load.Options) { o.Rate = -1 },
		"connections is 20001":      func(o *load.Options) { o.Connections = 20001 },
		"for is 0s":                 func(o *load.Options) { o.Duration = 0 },
		"for is 2h0m0s":             func(o *load.Options) { o.Duration = 2 * time.Hour },
		"events is 0":               func(o *load.Options) { o.Events = 0 },
		"realms is 11":              func(o *load.Options) { o.Realms = 11 },
		"format is xml":             func(o *load.Options) { o.Format = "xml" },
		"timeout is 2m0s":           func(o *load.Options) { o.Timeout = 2 * time.Minute },
		"poisson is true":           func(o *load.Options) { o.Rate, o.Poisson = 0, true },
		"url is http://a:xxxxx@":    func(o *load.Options) { o.URL = "http://a:secret@127.0.0.1/" },
		"url is not one":            func(o *load.Options) { o.URL = "http://a:secret@127.0.0.1:x/" },
		"timeout is 0s":             func(o *load.Options) { o.Timeout = 0 },
		"warmup is -1s":             func(o *load.Options) { o.Warmup = -time.Second },
	} {
		o := load.DefaultOptions()
		require.NoError(t, o.Validate())
		change(&o)
		_, err := load.Run(t.Context(), o)
		require.ErrorContains(t, err, field)
		require.NotContains(t, err.Error(), "secret")
	}
	o := load.DefaultOptions()
	o.URL, o.AllowRemote = "http://192.0.2.1/webhooks/x", true
	require.NoError(t, o.Validate())
}

// What a request costs the generator, which shares the machine with what it measures.
func BenchmarkRun(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration = 0, 16, time.Second
	r, err := load.Run(b.Context(), o)
	require.NoError(b, err)
	b.ReportMetric(r.RPS, "requests/s")
	b.ReportMetric(0, "ns/op")
}
