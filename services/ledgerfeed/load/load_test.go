package load_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/load"
)

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
// stalled: that is what a sender would have seen.
func TestRun_AStallCountsForAllThatWereDue(t *testing.T) {
	const stall = 600 * time.Millisecond
	var once sync.Once
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		once.Do(func() { time.Sleep(stall) })
	}))
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration = 200, 2, time.Second
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 200, r.Answered)
	require.Greater(t, r.P90, stall/2, "six in ten requests were due during the stall")
	require.Less(t, r.ServiceP50, stall/2, "though the server kept only two of them waiting")
}

func TestRun_CountsWhatWentWrong(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(s.Close)
	o := options(s.URL)
	o.Rate, o.Connections, o.Duration = 0, 2, 200*time.Millisecond
	r, err := load.Run(t.Context(), o)
	require.NoError(t, err)
	require.Zero(t, r.Answered)
	require.Positive(t, r.Failed)
	require.Equal(t, r.Failed, r.Statuses["503"])

	s.Close()
	o.Rate = 50
	r, err = load.Run(t.Context(), o)
	require.ErrorIs(t, err, load.ErrUnreachable)
	require.Equal(t, r.Offered, r.Statuses["no connection"])
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
	require.Positive(t, r.Statuses["timeout"])
	require.Positive(t, r.Statuses["not sent"], "one connection cannot even send them all")
	require.EqualValues(t, 30, r.Failed)
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
	require.InDelta(t, float64(r.Answered)/r.Seconds, r.RPS, 0.001)
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
		"timeout is 0s":             func(o *load.Options) { o.Timeout = 0 },
		"warmup is -1s":             func(o *load.Options) { o.Warmup = -time.Second },
	} {
		o := load.DefaultOptions()
		require.NoError(t, o.Validate())
		change(&o)
		_, err := load.Run(t.Context(), o)
		require.ErrorContains(t, err, field)
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
