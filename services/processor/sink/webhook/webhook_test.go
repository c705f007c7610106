package webhook_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var _ processor.Sink = (*webhook.Sink)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	oldSecret = secret.String("whsec_b2xkLXNlY3JldC1vZi10aGUtZW5kcG9pbnQ=")
	newSecret = secret.String("whsec_bmV3LXNlY3JldC1vZi10aGUtZW5kcG9pbnQ=")
)

// request is what the endpoint got.
type request struct {
	header http.Header
	body   []byte
	events []webhook.Event
}

// endpoint is a receiver as the documentation asks for: it checks the signature
// and keeps the newest version of each entity.
type endpoint struct {
	*httptest.Server
	verifier *standardwebhooks.Webhook

	mu       sync.Mutex // guards the rest
	newest   map[sink.Ref]sink.Record
	requests []request
	answer   func(w http.ResponseWriter, r request) (handled bool) // before anything is stored
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(newSecret.Reveal())
	require.NoError(t, err)
	e := &endpoint{verifier: verifier, newest: map[sink.Ref]sink.Record{}}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || e.verifier.Verify(body, r.Header) != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	got := request{header: r.Header, body: body}
	if r.Header.Get("Content-Type") == "application/cloudevents-batch+json" {
		err = json.Unmarshal(body, &got.events)
	} else {
		got.events = make([]webhook.Event, 1)
		err = json.Unmarshal(body, &got.events[0])
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, got)
	if e.answer != nil && e.answer(w, got) {
		return
	}
	for _, event := range got.events {
		record, err := event.Record()
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if held, ok := e.newest[record.Ref]; !ok || record.Supersedes(held.Row()) {
			e.newest[record.Ref] = record
		}
	}
}

func (e *endpoint) got() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]request(nil), e.requests...)
}

// answers makes the endpoint answer so, instead of storing.
func (e *endpoint) answers(answer func(w http.ResponseWriter, r request) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// readable is the sink with what its endpoint holds.
type readable struct {
	*webhook.Sink
	e *endpoint
}

func (r readable) Snapshot(context.Context) (map[sink.Ref]sink.Row, error) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	rows := map[sink.Ref]sink.Row{}
	for ref, record := range r.e.newest {
		rows[ref] = record.Row()
	}
	return rows, nil
}

func (r readable) Records(context.Context) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		r.e.mu.Lock()
		defer r.e.mu.Unlock()
		for _, record := range r.e.newest {
			if !yield(record, nil) {
				return
			}
		}
	}
}

func open(t *testing.T, e *endpoint, change ...func(*webhook.Options)) *webhook.Sink {
	t.Helper()
	o := webhook.Options{URL: e.URL, Secrets: []secret.String{newSecret}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, f := range change {
		f(&o)
	}
	s, err := webhook.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSink_KeepsTheContract(t *testing.T) {
	for _, batch := range []int{1, 100} {
		t.Run(fmt.Sprint("batch=", batch), func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Place {
				e := newEndpoint(t)
				return sinktest.Place{Shared: true, Open: func() sinktest.Sink {
					return readable{open(t, e, func(o *webhook.Options) { o.Batch = batch }), e}
				}}
			})
		})
	}
}

func TestSink_PostsACloudEventWithStandardWebhooksHeaders(t *testing.T) {
	e := newEndpoint(t)
	s := open(t, e, func(o *webhook.Options) { o.Name = "crm" })
	c := sinktest.Change("7/8", 1, `{"Id":"7/8"}`)
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{c}))
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{c}))

	got := e.got()
	require.Len(t, got, 2)
	key := "1/Invoice/7%2F8/" + strconv.FormatInt(c.GetVersion(), 10) + "/crm"
	for _, r := range got {
		require.Equal(t, key, r.header.Get("Webhook-Id"), "sent again, it has the same idempotency key")
		require.Equal(t, "application/cloudevents+json", r.header.Get("Content-Type"))
		require.Equal(t, "ledgerfeed", r.header.Get("User-Agent"))
	}
	require.JSONEq(t, `{"specversion":"1.0","id":"`+key+`","source":"/realms/1","type":"com.ledgerfeed.change.v1","subject":"Invoice/7%2F8",
		"time":"2023-11-14T22:13:21Z","datacontenttype":"application/json","realm":"1","entity":"Invoice","entityid":"7/8",
		"entityversion":"`+strconv.FormatInt(c.GetVersion(), 10)+`","operation":"update","deleted":false,"synctoken":"1","learned":"webhook",
		"learnedat":"2023-11-14T22:13:22.5Z","eventid":"event-7/8","data":{"Id":"7/8"}}`, string(got[0].body))

	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Tombstone("9", 2)}))
	gone := e.got()[2].events[0]
	require.True(t, gone.Deleted)
	require.Empty(t, gone.Data)
	require.Empty(t, gone.DataContentType)
}

func TestSink_SignsWithEverySecret(t *testing.T) {
	e := newEndpoint(t)
	s := open(t, e, func(o *webhook.Options) { o.Secrets = []secret.String{oldSecret, newSecret} })
	require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}), "the endpoint knows the new one only")
	require.Len(t, strings.Fields(e.got()[0].header.Get("Webhook-Signature")), 2)

	s = open(t, e, func(o *webhook.Options) { o.Secrets = []secret.String{oldSecret} })
	require.ErrorContains(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)}), "401 Unauthorized")
}

func changes(n int) (all []*ledgerfeedv1.Change) {
	for i := range n {
		all = append(all, sinktest.Change(fmt.Sprint(i), 1, `{"Id":"`+fmt.Sprint(i)+`"}`))
	}
	return all
}

func TestSink_BatchesAreBoundedInChangesAndBytes(t *testing.T) {
	e := newEndpoint(t)
	s := open(t, e, func(o *webhook.Options) { o.Batch = 10 })
	require.NoError(t, s.Write(t.Context(), changes(25)))
	sizes := map[int]int{}
	ids := map[string]bool{}
	for _, r := range e.got() {
		sizes[len(r.events)]++
		ids[r.header.Get("Webhook-Id")] = true
	}
	require.Equal(t, map[int]int{10: 2, 5: 1}, sizes)
	require.Len(t, ids, 3)
	require.NoError(t, s.Write(t.Context(), changes(25)))
	for _, r := range e.got() {
		ids[r.header.Get("Webhook-Id")] = true
	}
	require.Len(t, ids, 3, "the same batches have the same ids")

	large := changes(3)
	for _, c := range large {
		c.Document = []byte(`{"Memo":"` + strings.Repeat("x", 600<<10) + `"}`)
	}
	before := len(e.got())
	require.NoError(t, s.Write(t.Context(), large))
	require.Equal(t, 3, len(e.got())-before)
}

func TestSink_WhatAnAnswerMeans(t *testing.T) {
	for _, tc := range []struct {
		status    int
		after     string
		permanent bool
		delay     time.Duration // at least; 0 is the usual backoff
	}{
		{status: 400, permanent: true},
		{status: 413, permanent: true},
		{status: 415, permanent: true},
		{status: 422, permanent: true},
		{status: 301},
		{status: 401},
		{status: 404},
		{status: 409},
		{status: 410, delay: time.Hour},
		{status: 429, after: "120", delay: 2 * time.Minute},
		{status: 503, after: time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat), delay: 9 * time.Minute},
		{status: 503, after: "soon"},
		{status: 500},
	} {
		t.Run(fmt.Sprint(tc.status, tc.after), func(t *testing.T) {
			e := newEndpoint(t)
			e.answers(func(w http.ResponseWriter, _ request) bool {
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				return true
			})
			s := open(t, e)
			err := s.Write(t.Context(), changes(1))
			require.ErrorContains(t, err, strconv.Itoa(tc.status))
			_, permanent := stream.AsPermanent(err)
			require.Equal(t, tc.permanent, permanent)
			if tc.delay > 0 {
				require.GreaterOrEqual(t, stream.Delay(err, 1), tc.delay)
			} else {
				require.Less(t, stream.Delay(err, 1), 2*time.Second)
			}
			require.Len(t, e.got(), 1, "no redirect is followed")
		})
	}
}

// What an endpoint asks for it asks of every request, not of the one it answered.
func TestSink_LeavesAnEndpointAloneForAsLongAsItAsks(t *testing.T) {
	e := newEndpoint(t)
	e.answers(func(w http.ResponseWriter, _ request) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	s := open(t, e)
	require.Error(t, s.Write(t.Context(), changes(1)))
	e.answers(nil)
	err := s.Write(t.Context(), changes(1))
	require.Greater(t, stream.Delay(err, 1), 50*time.Minute)
	require.Len(t, e.got(), 1)
}

// Of a batch one change is refused for good: the others are taken, each once.
func TestSink_RefusedChangesDoNotRepeatTheOthers(t *testing.T) {
	for _, batch := range []int{1, 8} {
		e := newEndpoint(t)
		e.answers(func(w http.ResponseWriter, r request) bool {
			for _, event := range r.events {
				if event.EntityID == "5" {
					w.WriteHeader(http.StatusUnprocessableEntity)
					return true
				}
			}
			return false
		})
		s := open(t, e, func(o *webhook.Options) { o.Batch = batch })
		err := s.Write(t.Context(), changes(16))
		var partial *sink.PartialError
		require.ErrorAs(t, err, &partial)
		for i, err := range partial.Errs {
			_, permanent := stream.AsPermanent(err)
			require.Equal(t, i == 5, permanent, i)
			require.Equal(t, i != 5, err == nil, i)
		}
		taken := map[string]int{}
		for _, r := range e.got() {
			refused := false
			for _, event := range r.events {
				refused = refused || event.EntityID == "5"
			}
			for _, event := range r.events {
				if !refused {
					taken[event.EntityID]++
				}
			}
		}
		require.Len(t, taken, 15)
		for id, n := range taken {
			require.Equal(t, 1, n, id)
		}
	}
}

func TestSink_NoMoreRequestsAtATimeThanAllowed(t *testing.T) {
	var now, most atomic.Int64
	hold := make(chan struct{})
	arrived := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		arrived <- struct{}{}
		<-hold
	}))
	t.Cleanup(server.Close)
	s := open(t, &endpoint{Server: server}, func(o *webhook.Options) { o.Concurrency = 3 })
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- s.Write(t.Context(), changes(10)) }()
	}
	for range 3 {
		<-arrived
	}
	close(hold)
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
	require.EqualValues(t, 3, most.Load())
}

func TestSink_KeepsToTheRate(t *testing.T) {
	e := newEndpoint(t)
	s := open(t, e, func(o *webhook.Options) { o.Rate = 50 })
	began := time.Now()
	require.NoError(t, s.Write(t.Context(), changes(75)))
	require.Greater(t, time.Since(began), 450*time.Millisecond, "50 at once, the other 25 at 50 a second")
}

// Whoever may set the URL must not reach what only this machine can.
func TestSink_DoesNotConnectToPrivateAddresses(t *testing.T) {
	e := newEndpoint(t)
	for _, url := range []string{
		e.URL, strings.Replace(e.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254/latest/meta-data", "http://[::1]:1/", "http://10.0.0.1/", "http://0.0.0.0:1/",
	} {
		s := open(t, e, func(o *webhook.Options) { o.URL, o.Allow = url, nil })
		err := s.Write(t.Context(), changes(1))
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "refused", "%s was tried", url)
		_, permanent := stream.AsPermanent(err)
		require.False(t, permanent, "the operator may allow it later")
	}
	require.Empty(t, e.got())
}

func TestSink_ShowsNoSecrets(t *testing.T) {
	s := open(t, newEndpoint(t), func(o *webhook.Options) { o.URL = "http://127.0.0.1:1/hook?token=hunter2" })
	err := s.Write(t.Context(), changes(1))
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), "hunter2")
	for _, o := range []webhook.Options{
		{URL: "http://me:hunter2@host/", Secrets: []secret.String{newSecret}},
		{URL: "ftp://hunter2/", Secrets: []secret.String{newSecret}},
		{URL: "http://host/", Secrets: []secret.String{"hunter2!"}},
		{URL: "http://host/", Secrets: []secret.String{"whsec_"}},
		{URL: "http://host/"},
	} {
		_, err := webhook.Open(o)
		require.ErrorContains(t, err, "webhook sink: ")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSink_GivesUpWithTheContext(t *testing.T) {
	hold := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hold) })
	s := open(t, &endpoint{Server: server}, func(o *webhook.Options) { o.Concurrency = 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := s.Write(ctx, changes(3))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)
}

// Secrets and headers are replaced while the sink is used.
func TestSink_TakesOtherSecrets(t *testing.T) {
	e := newEndpoint(t)
	s := open(t, e, func(o *webhook.Options) { o.Secrets = []secret.String{oldSecret} })
	require.ErrorContains(t, s.Write(t.Context(), changes(1)), "401 Unauthorized", "the endpoint knows the new one only")
	require.Error(t, s.SetSecrets(nil, nil))
	require.Error(t, s.SetSecrets([]secret.String{"whsec_"}, nil))
	require.Error(t, s.SetSecrets([]secret.String{newSecret}, http.Header{"Host": {"x"}}))
	require.ErrorContains(t, s.Write(t.Context(), changes(1)), "401 Unauthorized", "nothing was taken")

	require.NoError(t, s.SetSecrets([]secret.String{newSecret}, http.Header{"X-Key": {"two"}}))
	require.NoError(t, s.Write(t.Context(), changes(1)))
	got := e.got()
	require.Equal(t, "two", got[len(got)-1].header.Get("X-Key"))
}

// Standard Webhooks: secrets have 24 to 64 bytes.
func TestSink_RefusesSecretsThatCanBeGuessed(t *testing.T) {
	for size, taken := range map[int]bool{1: false, 16: false, 23: false, 24: true, 32: true, 64: true, 65: false} {
		text := base64.StdEncoding.EncodeToString(make([]byte, size))
		for _, spelt := range []string{text, "whsec_" + text} {
			_, err := webhook.Open(webhook.Options{URL: "https://example.com/", Secrets: []secret.String{secret.String(spelt)}})
			require.Equal(t, taken, err == nil, "%d bytes: %v", size, err)
			if err != nil {
				require.NotContains(t, err.Error(), text)
			}
		}
	}
}
