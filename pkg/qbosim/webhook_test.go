package qbosim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// post is one delivery the app got.
type post struct {
	Header http.Header
	Body   []byte
}

// app is an endpoint that keeps what it gets and answers what it is told.
type app struct {
	server *httptest.Server
	answer func(n int) int // the status of the n-th POST, from 0

	mu    sync.Mutex
	posts []post
}

func newApp(t *testing.T, answer func(n int) int) *app {
	a := &app{answer: answer}
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.mu.Lock()
		n := len(a.posts)
		a.posts = append(a.posts, post{r.Header.Clone(), body})
		a.mu.Unlock()
		status := a.answer(n)
		if status == 302 {
			w.Header().Set("Location", "/")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(a.server.Close)
	return a
}

func always(int) int { return 200 }

func (a *app) got() []post {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.posts)
}

// events are those of all deliveries in order, by whatever format.
func (a *app) events(t require.TestingT) []webhook.Event {
	var all []webhook.Event
	for _, p := range a.got() {
		n, err := webhook.Parse(p.Body)
		require.NoError(t, err)
		require.Empty(t, n.Rejected)
		all = append(all, n.Events...)
	}
	return all
}

// subscribed is a simulator whose webhooks go to the app when flushed.
func subscribed(t *testing.T, a *app, edit ...func(*qbosim.Options)) *bundle {
	return setup(t, append([]func(*qbosim.Options){func(o *qbosim.Options) {
		o.WebhookURL = a.server.URL
		o.RetryScale = 0.0001 // 1ms 2ms 3ms 30ms …
	}}, edit...)...)
}

func (b *bundle) flush() {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	require.NoError(b, b.FlushWebhooks(ctx))
	require.True(b, b.Settled())
}

// summary names events shortly.
func summary(events []webhook.Event) []string {
	var all []string
	for _, e := range events {
		line := fmt.Sprintf("%s %s %s %s", e.RealmID, e.Entity, e.EntityID, strings.TrimPrefix(e.Operation.String(), "OPERATION_"))
		if e.MergedID != "" {
			line += " " + e.MergedID
		}
		all = append(all, line)
	}
	return all
}

func TestWebhook_TellsEveryOperation(t *testing.T) {
	t.Parallel()
	for _, format := range []qbosim.Format{qbosim.CloudEvents, qbosim.Legacy, qbosim.Mixed} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			a := newApp(t, always)
			b := subscribed(t, a, func(o *qbosim.Options) { o.Format = format })
			c1, c2, invoice := b.create("Customer", nil), b.create("Customer", nil), b.create("Invoice", nil)
			require.NoError(t, b.Update(invoice, nil))
			require.NoError(t, b.Email(invoice))
			require.NoError(t, b.Void(invoice))
			require.NoError(t, b.Delete(invoice))
			require.NoError(t, b.Merge(c1, c2))
			require.NoError(t, b.Delete(c1)) // inactive
			department := b.create("Department", nil)
			require.NoError(t, b.Delete(department)) // Intuit offers no Delete for it
			b.create("TaxCode", nil)                 // nor any webhook for this
			b.flush()
			require.Empty(t, cmp.Diff([]string{
				realm + " Customer 1 CREATE", realm + " Customer 2 CREATE", realm + " Invoice 1 CREATE",
				realm + " Invoice 1 UPDATE", realm + " Invoice 1 EMAILED", realm + " Invoice 1 VOID",
				realm + " Invoice 1 DELETE", realm + " Customer 1 MERGE 2", realm + " Customer 1 DELETE",
				realm + " Department 1 CREATE", realm + " Department 1 UPDATE",
			}, summary(a.events(t))))
		})
	}
}

func TestWebhook_TimeIsTheChanges(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a)
	b.Advance(123 * time.Millisecond)
	ref := b.create("Invoice", nil)
	for range 40 {
		require.NoError(t, b.Update(ref, nil))
	}
	b.flush()
	events := a.events(t)
	require.Len(t, events, 41)
	history := b.History(ref)
	for i, e := range events {
		require.Equal(t, b.Now().Add(time.Duration(i)*time.Millisecond), e.OccurredAt.Truncate(time.Millisecond))
		require.Equal(t, history[i].LastUpdated, e.OccurredAt.Truncate(time.Second))
	}
	require.True(t, slices.ContainsFunc(events, func(e webhook.Event) bool { return e.OccurredAt.Nanosecond()%1e6 != 0 }), "nanoseconds now and then")
}

func TestWebhook_IsSignedAndHasIntuitsHeaders(t *testing.T) {
	t.Parallel()
	for _, format := range []qbosim.Format{qbosim.CloudEvents, qbosim.Legacy} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			a := newApp(t, always)
			b := subscribed(t, a, func(o *qbosim.Options) { o.Format = format })
			for range 20 {
				b.create("Bill", nil)
				b.flush()
			}
			traces := map[string]bool{}
			for _, p := range a.got() {
				_, err := webhook.Verify(p.Body, p.Header.Get("Intuit-Signature"), []secret.String{"other", "verifier"})
				require.NoError(t, err)
				if format == qbosim.Legacy {
					requireLegacyHeaders(t, p.Header)
				} else {
					requireRecordedHeaders(t, p.Header)
				}
				traces[p.Header.Get("Intuit-T-Id")] = true
			}
			require.Len(t, traces, 20)
		})
	}
}

// requireLegacyHeaders: those of the sample on Intuit's page.
func requireLegacyHeaders(t *testing.T, h http.Header) {
	t.Helper()
	require.Equal(t, "application/json; charset=utf-8", h.Get("Content-Type"))
	require.Equal(t, "2026-11-23T04:00:00-0800", h.Get("Intuit-Created-Time"))
	require.Equal(t, "intuit_notification_server/0.1", h.Get("User-Agent"))
	require.Equal(t, "0.1", h.Get("Intuit-Notification-Schema-Version"))
	require.Equal(t, "application/json", h.Get("Accept"))
}

// requireRecordedHeaders: all of the recorded ones, the fixed ones as they are and the
// others in their form, and none of Intuit's beside them.
func requireRecordedHeaders(t *testing.T, h http.Header) {
	t.Helper()
	const id = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`
	vary := map[string]string{
		"Intuit-Created-Time": `^2026-11-23T12:00:00\.000Z$`, "Intuit-Signature": `^.{44}$`, "Intuit-Signature-Id": id, "Intuit-T-Id": id,
	}
	recorded, err := os.ReadFile("testdata/ce_captured_headers_2026.txt")
	require.NoError(t, err)
	names := map[string]bool{"Accept-Encoding": true, "Content-Length": true} // of HTTP
	for line := range strings.Lines(string(recorded)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		name = http.CanonicalHeaderKey(name)
		names[name] = true
		if form := vary[name]; form != "" {
			require.Regexp(t, form, h.Get(name), name)
			delete(vary, name)
			continue
		}
		require.Equal(t, value, h.Get(name), name)
	}
	require.Empty(t, vary)
	for name := range h {
		require.True(t, names[name], name)
	}
}

func TestWebhook_BatchesOf20MixRealmsInCloudEventsOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		format qbosim.Format
		want   []int
	}{{qbosim.CloudEvents, []int{20, 20, 20}}, {qbosim.Legacy, []int{20, 10, 20, 10}}} {
		t.Run(string(tt.format), func(t *testing.T) {
			t.Parallel()
			a := newApp(t, always)
			b := subscribed(t, a, func(o *qbosim.Options) { o.Format = tt.format })
			b.AddRealm(other)
			b.Connect(other)
			for range 30 {
				b.create("Bill", nil)
				_, err := b.Create(other, "Bill", nil)
				require.NoError(t, err)
			}
			b.flush()
			var sizes []int
			for _, p := range a.got() {
				n, err := webhook.Parse(p.Body)
				require.NoError(t, err)
				sizes = append(sizes, len(n.Events))
				realms := map[string]bool{}
				for _, e := range n.Events {
					realms[e.RealmID] = true
				}
				require.Equal(t, tt.format == qbosim.CloudEvents, len(realms) == 2)
			}
			require.Equal(t, tt.want, sizes)
			st := b.Stats()
			require.Equal(t, 60, st.WebhookEvents)
			require.Equal(t, len(tt.want), st.Webhooks)
			require.Equal(t, len(tt.want), st.WebhookAttempts)
		})
	}
}

func TestWebhook_OnlyConnectedRealmsOfASubscribedApp(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a)
	b.AddRealm(other)
	make := func(realm string) {
		_, err := b.Create(realm, "Bill", nil)
		require.NoError(t, err)
	}
	make(other) // 1: not connected
	b.Authorize(other)
	make(other) // 2: consented, not exchanged
	b.Connect(other)
	make(other) // 3
	b.ExpireAccess(other)
	make(other) // 4: the connection lives
	b.RevokeRealm(other)
	make(other) // 5
	b.Connect(other)
	make(other) // 6
	b.flush()
	b.SetWebhookURL("")
	make(other) // 7: nobody is subscribed
	require.True(t, b.Settled())
	b.SetWebhookURL(a.server.URL)
	make(other) // 8
	b.flush()
	var got []string
	for _, e := range a.events(t) {
		got = append(got, e.EntityID)
	}
	require.Equal(t, []string{"3", "4", "6", "8"}, got)
}

func TestWebhook_OnlyExactly200Acknowledges(t *testing.T) {
	t.Parallel()
	statuses := []int{201, 202, 204, 302, 400, 404, 500, 503}
	a := newApp(t, func(n int) int {
		if n < len(statuses) {
			return statuses[n]
		}
		return 200
	})
	b := subscribed(t, a, func(o *qbosim.Options) { o.RetryScale = 1e-6 })
	b.create("Bill", nil)
	b.flush()
	posts := a.got()
	require.Len(t, posts, len(statuses)+1)
	for _, p := range posts {
		require.Equal(t, posts[0].Body, p.Body, "the same bytes again")
		require.Equal(t, posts[0].Header.Get("Intuit-Signature"), p.Header.Get("Intuit-Signature"))
	}
	st := b.Stats()
	require.Equal(t, len(statuses), st.WebhookFailures)
	require.Equal(t, 1, st.Webhooks)
}

func TestWebhook_AFailedOneWithholdsAllLaterOnes(t *testing.T) {
	t.Parallel()
	var broken sync.Map
	broken.Store("now", true)
	a := newApp(t, func(int) int {
		if _, ok := broken.Load("now"); ok {
			return 503
		}
		return 200
	})
	b := subscribed(t, a, func(o *qbosim.Options) { o.Aggregate = -1 })
	stop := b.run()
	defer stop()
	first := b.create("Bill", nil)
	require.Eventually(t, func() bool { return b.Stats().WebhookFailures >= 3 }, 10*time.Second, time.Millisecond)
	for range 30 {
		b.create("Item", nil)
	}
	seen := b.Stats().WebhookFailures
	require.Eventually(t, func() bool { return b.Stats().WebhookFailures >= seen+2 }, 10*time.Second, time.Millisecond)
	for _, e := range a.events(t) {
		require.Equal(t, "Bill "+first.ID, e.Entity+" "+e.EntityID)
	}
	require.False(t, b.Settled())
	broken.Delete("now")
	require.Eventually(t, b.Settled, 10*time.Second, time.Millisecond)
	require.Equal(t, 31, b.Stats().WebhookEvents)
}

// run starts the dispatcher; the function returned ends it.
func (b *bundle) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- b.Sim.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		require.NoError(b, <-done)
	})
}

func TestWebhook_NoAnswerWithinThreeSecondsIsAFailure(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	a := newApp(t, func(n int) int {
		if n == 0 {
			<-release
		}
		return 200
	})
	b := subscribed(t, a)
	b.create("Bill", nil)
	start := time.Now()
	b.flush()
	took := time.Since(start)
	close(release)
	require.GreaterOrEqual(t, took, 3*time.Second)
	require.Less(t, took, 10*time.Second)
	require.Equal(t, 1, b.Stats().WebhookFailures)
	require.Len(t, a.got(), 2)
}

func TestWebhook_RetriesBySchedule(t *testing.T) {
	t.Parallel()
	var at []time.Time
	a := newApp(t, func(n int) int {
		at = append(at, time.Now()) // one POST at a time
		if n < 4 {
			return 500
		}
		return 200
	})
	b := subscribed(t, a, func(o *qbosim.Options) { o.RetryScale = 0.002 }) // 20ms 40ms 60ms 600ms
	b.create("Bill", nil)
	b.flush()
	require.Len(t, at, 5)
	for i, want := range []int{20, 40, 60, 600} {
		require.GreaterOrEqual(t, at[i+1].Sub(at[i]).Milliseconds(), int64(want))
	}
}

func TestWebhook_AggregatesWhatHappensTogether(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Aggregate = 300 * time.Millisecond })
	stop := b.run()
	defer stop()
	for range 5 {
		b.create("Bill", nil)
	}
	require.Eventually(t, b.Settled, 10*time.Second, time.Millisecond)
	require.Len(t, a.got(), 1)
	require.Len(t, a.events(t), 5)
}

func TestWebhook_FlushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	a := newApp(t, func(int) int { return 500 })
	b := subscribed(t, a, func(o *qbosim.Options) { o.RetryScale = 1 })
	b.create("Bill", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.FlushWebhooks(ctx), context.DeadlineExceeded)
	require.False(t, b.Settled())
	b.SetWebhookURL("")
	require.ErrorContains(t, b.FlushWebhooks(t.Context()), "no webhook URL")
}

func TestWebhook_FaultsComeFromTheSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, faults qbosim.Faults) ([]string, qbosim.Stats) {
		a := newApp(t, always)
		b := subscribed(t, a, func(o *qbosim.Options) {
			o.Seed, o.Faults = seed, faults
			o.Aggregate = -1
		})
		for range 200 {
			b.create("Bill", nil)
		}
		b.flush()
		return summary(a.events(t)), b.Stats()
	}
	inOrder, _ := run(1, qbosim.Faults{})
	require.Len(t, inOrder, 200)

	dropped, st := run(1, qbosim.Faults{Drop: 0.1})
	require.InDelta(t, 180, len(dropped), 15)
	require.Equal(t, 200-len(dropped), st.WebhookEventsDropped)
	again, _ := run(1, qbosim.Faults{Drop: 0.1})
	require.Equal(t, dropped, again)
	otherSeed, _ := run(2, qbosim.Faults{Drop: 0.1})
	require.NotEqual(t, dropped, otherSeed)

	doubled, _ := run(1, qbosim.Faults{Duplicate: 0.1})
	require.InDelta(t, 220, len(doubled), 15)
	slices.Sort(doubled)
	all := slices.Clone(inOrder)
	slices.Sort(all)
	require.Equal(t, all, slices.Compact(doubled), "nothing is lost")

	reordered, _ := run(1, qbosim.Faults{Reorder: 0.3})
	require.Len(t, reordered, 200)
	require.NotEqual(t, inOrder, reordered)
	slices.Sort(reordered)
	require.Equal(t, all, reordered)

	both, _ := run(1, qbosim.Faults{Drop: 0.1, Duplicate: 0.1})
	slices.Sort(both)
	slices.Sort(dropped)
	require.Equal(t, dropped, slices.Compact(both), "a second fault drops no others")
}

func TestWebhook_DuplicatesKeepTheirEventID(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Faults.Duplicate = 1 })
	b.create("Bill", nil)
	b.create("Bill", nil)
	b.flush()
	times := map[string]int{}
	for _, e := range a.events(t) {
		times[e.ID]++
	}
	require.Len(t, times, 2)
	for id, n := range times {
		require.Len(t, id, 36)
		require.Equal(t, 2, n)
	}
}

func TestWebhook_DelayHoldsEventsBack(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) {
		o.Faults.Delay = 400 * time.Millisecond
		o.Aggregate = -1
	})
	stop := b.run()
	defer stop()
	start := time.Now()
	for range 50 {
		b.create("Bill", nil)
	}
	require.Eventually(t, b.Settled, 10*time.Second, time.Millisecond)
	require.Greater(t, time.Since(start), 200*time.Millisecond)
	require.Greater(t, len(a.got()), 1)
	require.Len(t, a.events(t), 50)
}

func TestWebhook_OutageLosesForGood(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) {
		o.Faults.Outages = []qbosim.Outage{{From: 10 * time.Second, For: 5 * time.Second}}
	})
	b.Advance(time.Hour)
	b.BeginLoad()
	for _, wait := range []string{"0s", "9.999s", "1ms", "4.999s", "1ms"} {
		d, err := time.ParseDuration(wait)
		require.NoError(t, err)
		b.Advance(d)
		b.create("Bill", nil)
	}
	b.flush()
	var got []string
	for _, e := range a.events(t) {
		got = append(got, e.EntityID)
	}
	require.Equal(t, []string{"1", "2", "5"}, got)
	require.Equal(t, 2, b.Stats().WebhookEventsDropped)
	require.Len(t, b.Truth(realm), 5)
}

func TestWebhook_CloudEventsVaryAsIntuitsDo(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a)
	for range 60 {
		require.NoError(t, b.Void(b.create("Invoice", nil)))
	}
	survivor := b.create("Vendor", nil)
	for range 20 {
		require.NoError(t, b.Merge(survivor, b.create("Vendor", nil)))
	}
	b.SetFaults(qbosim.Faults{HideMerged: 1})
	hidden := b.create("Vendor", nil)
	require.NoError(t, b.Merge(survivor, hidden))
	b.flush()
	bodies := string(bytes.Join(bodiesOf(a), nil))
	for _, want := range []string{
		`qbo.invoice.void.v1`, `qbo.invoice.voided.v1`, `"deletedid":`, `"deletedId":`, `"deletedID":`, `"data":{}`, `"alternative_ids":`,
	} {
		require.Contains(t, bodies, want)
	}
	require.NotRegexp(t, `"deleted[iI][dD]":"`+hidden.ID+`"`, bodies)
	require.Less(t, strings.Count(bodies, `"datacontenttype"`), strings.Count(bodies, `"specversion"`))
}

func TestWebhook_LegacySometimesHasTheOldTimeFormat(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := subscribed(t, a, func(o *qbosim.Options) { o.Format = qbosim.Legacy })
	for range 60 {
		b.create("Invoice", nil)
	}
	b.flush()
	var layouts []string
	for _, body := range bodiesOf(a) {
		var got struct {
			EventNotifications []struct {
				DataChangeEvent struct {
					Entities []struct{ LastUpdated string }
				}
			}
		}
		require.NoError(t, json.Unmarshal(body, &got))
		require.Len(t, got.EventNotifications, 1)
		for _, e := range got.EventNotifications[0].DataChangeEvent.Entities {
			layouts = append(layouts, e.LastUpdated)
		}
	}
	require.Contains(t, layouts, "2026-11-23T12:00:00.000Z")
	require.Contains(t, layouts, "2026-11-23T04:00:00-0800")
}

func bodiesOf(a *app) [][]byte {
	var all [][]byte
	for _, p := range a.got() {
		all = append(all, p.Body)
	}
	return all
}
