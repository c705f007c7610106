package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

const (
	realm   = "9130347712345678"
	hook    = "whsec_dGhlLXNlY3JldC1vZi10aGUtdGVzdC1vZi10aGlz"
	opening = 1000
	patient = time.Minute // a bound for what must happen
)

// Invoices are made, changed, voided and deleted; their webhooks come twice and in
// any order, answers of the app are lost, the processor stops in between. The
// stock is what the invoices say, to the piece.
func TestInventory_StockIsExactOverTheWholeFeed(t *testing.T) {
	for _, batch := range []int{1, 50} {
		t.Run(fmt.Sprintf("batch=%d", batch), func(t *testing.T) {
			t.Parallel()
			app := startApp(t)
			f := startFeed(t, app.server.URL, batch)
			b := newBooks(t, f.sim)
			app.open(t, b.items)
			for range 3 {
				before, _ := app.seen()
				stop := f.startProcessor(t)
				for range 20 {
					b.change()
				}
				f.flush(t)
				app.awaitMore(t, len(before))
				stop()
				b.change() // told of while no processor runs
				f.flush(t)
			}
			defer f.startProcessor(t)()
			f.settle(t)
			require.Equal(t, b.stock(), app.stock(t))
			require.NotEqual(t, app.stock(t)[b.items[0]], opening)

			// What comes again changes nothing, the oldest last, neither does what is forged.
			requests, lost := app.seen()
			require.Positive(t, lost, "no answer was lost: the test shows less than it says")
			for _, r := range slices.Backward(requests) {
				require.Equal(t, http.StatusNoContent, app.post(r))
			}
			i := slices.IndexFunc(requests, func(r request) bool { return bytes.Contains(r.body, []byte(`"Qty":`)) })
			requests[i].body = bytes.Replace(requests[i].body, []byte(`"Qty":`), []byte(`"Qty":9`), 1)
			require.Equal(t, http.StatusUnauthorized, app.post(requests[i]))
			require.Equal(t, b.stock(), app.stock(t))
		})
	}
}

func TestChange_WhatItTakes(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change change
		want   []string // item and quantity, in turn
		err    error
	}{
		"lines of a service, a bundle and a subtotal": {change: change{Data: []byte(`{"TotalAmt": 3, "Line": [
			{"SalesItemLineDetail": {"ItemRef": {"value": "1", "name": "Rocks"}, "Qty": 2}},
			{"SalesItemLineDetail": {"ItemRef": {"value": "2"}, "Qty": 0.125}},
			{"SalesItemLineDetail": {"ItemRef": {"value": "SHIPPING_ITEM_ID"}}},
			{"GroupLineDetail": {"Line": [{"SalesItemLineDetail": {"ItemRef": {"value": "3"}, "Qty": 4}}]}},
			{"SubTotalLineDetail": {}}]}`)}, want: []string{"1", "2", "2", "0.125", "3", "4"}},
		"void":       {change: change{Data: []byte(`{"TotalAmt": 0, "PrivateNote": "Voided", "Line": [{"SalesItemLineDetail": {"ItemRef": {"value": "1"}, "Qty": 2}}]}`)}},
		"free":       {change: change{Data: []byte(`{"TotalAmt": 0, "Line": [{"SalesItemLineDetail": {"ItemRef": {"value": "1"}, "Qty": 2}}]}`)}, want: []string{"1", "2"}},
		"deleted":    {change: change{Deleted: true}},
		"no invoice": {change: change{Data: []byte(`{"Line": "none"}`)}, err: errUnreadable},
		"no data":    {err: errUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			items, quantities, err := row.change.takes()
			require.ErrorIs(t, err, row.err)
			var got []string
			for i := range items {
				got = append(got, items[i], quantities[i])
			}
			require.Equal(t, row.want, got)
		})
	}
}

// request is what came to the app.
type request struct {
	header http.Header
	body   []byte
}

// app is the example before which answers get lost.
type app struct {
	db     *pgxpool.Pool
	app    *inventory
	server *httptest.Server

	mu       sync.Mutex // guards the rest
	requests []request
	lost     int
}

func startApp(t *testing.T) *app {
	t.Helper()
	db, err := pgxpool.New(t.Context(), devtest.Postgres(t))
	require.NoError(t, err)
	t.Cleanup(db.Close)
	a := &app{db: db}
	a.app, err = newInventory(t.Context(), db, hook)
	require.NoError(t, err)
	_, err = newInventory(t.Context(), db, hook)
	require.NoError(t, err, "a second start")
	_, err = newInventory(t.Context(), db, "")
	require.ErrorContains(t, err, "WEBHOOK_SECRET")
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	return a
}

// ServeHTTP loses the answer to every third request, some times.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	a.mu.Lock()
	a.requests = append(a.requests, request{r.Header.Clone(), body})
	lose := len(a.requests)%3 == 1 && a.lost < 12
	if lose {
		a.lost++
	}
	a.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	if lose {
		a.app.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	a.app.ServeHTTP(w, r)
}

func (a *app) seen() (requests []request, lost int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests), a.lost
}

// awaitMore waits until more than n requests have come.
func (a *app) awaitMore(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		requests, _ := a.seen()
		return len(requests) > n
	}, patient, time.Millisecond)
}

// post gives the app a request once more.
func (a *app) post(r request) int {
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.body))
	req.Header = r.header
	answer := httptest.NewRecorder()
	a.app.ServeHTTP(answer, req)
	return answer.Code
}

// open sets what there is at the beginning.
func (a *app) open(t *testing.T, items []string) {
	t.Helper()
	_, err := a.db.Exec(t.Context(), `INSERT INTO stock SELECT $1, item, $2::int FROM unnest($3::text[]) AS item`, realm, opening, items)
	require.NoError(t, err)
}

func (a *app) stock(t *testing.T) map[string]int {
	t.Helper()
	rows, err := a.db.Query(t.Context(), `SELECT item, quantity::int FROM stock WHERE realm = $1`, realm)
	require.NoError(t, err)
	stock := map[string]int{}
	var item string
	var quantity int
	_, err = pgx.ForEachRow(rows, []any{&item, &quantity}, func() error {
		stock[item] = quantity
		return nil
	})
	require.NoError(t, err)
	return stock
}

// books changes the invoices of the simulated QuickBooks and keeps count.
type books struct {
	t     *testing.T
	sim   *qbosim.Sim
	rng   *rand.Rand
	items []string
	live  []qbosim.Ref
	sold  map[qbosim.Ref]map[string]int // by each invoice that counts
}

func newBooks(t *testing.T, sim *qbosim.Sim) *books {
	t.Helper()
	b := &books{t: t, sim: sim, rng: rand.New(rand.NewPCG(1, 2)), sold: map[qbosim.Ref]map[string]int{}}
	for range 4 {
		item, err := sim.Create(realm, "Item", nil)
		require.NoError(t, err)
		b.items = append(b.items, item.ID)
	}
	_, err := sim.Create(realm, "Customer", nil)
	require.NoError(t, err)
	return b
}

func (b *books) change() {
	b.t.Helper()
	what := b.rng.IntN(10)
	if len(b.live) == 0 || what < 4 {
		fields, sold := b.lines()
		ref, err := b.sim.Create(realm, "Invoice", fields)
		require.NoError(b.t, err)
		b.live, b.sold[ref] = append(b.live, ref), sold
		return
	}
	n := b.rng.IntN(len(b.live))
	ref := b.live[n]
	switch {
	case what < 7:
		fields, sold := b.lines()
		require.NoError(b.t, b.sim.Update(ref, fields))
		b.sold[ref] = sold
		return
	case what < 8:
		require.NoError(b.t, b.sim.Email(ref))
		return
	case what < 9:
		require.NoError(b.t, b.sim.Void(ref))
	default:
		require.NoError(b.t, b.sim.Delete(ref))
	}
	b.live = slices.Delete(b.live, n, n+1)
	delete(b.sold, ref)
}

// lines are one to three, of an item each, which may be the same.
func (b *books) lines() (fields map[string]any, sold map[string]int) {
	var lines []any
	sold = map[string]int{}
	for range 1 + b.rng.IntN(3) {
		item, quantity := b.items[b.rng.IntN(len(b.items))], 1+b.rng.IntN(9)
		sold[item] += quantity
		lines = append(lines, map[string]any{
			"Amount": 10, "DetailType": "SalesItemLineDetail",
			"SalesItemLineDetail": map[string]any{"ItemRef": map[string]any{"value": item}, "Qty": quantity},
		})
	}
	return map[string]any{"Line": lines, "TotalAmt": 10 * len(lines)}, sold
}

func (b *books) stock() map[string]int {
	stock := map[string]int{}
	for _, item := range b.items {
		stock[item] = opening
	}
	for _, sold := range b.sold {
		for item, quantity := range sold {
			stock[item] -= quantity
		}
	}
	return stock
}

// feed is a QuickBooks, an ingress, and what a processor needs.
type feed struct {
	sim     *qbosim.Sim
	conn    *stream.Conn
	environ []string
}

func startFeed(t *testing.T, endpoint string, batch int) *feed {
	t.Helper()
	nats, redis := devtest.NATS(t), devtest.Redis(t)
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = nats, "dev"
	conn, err := stream.Connect(t.Context(), stream.Options{Config: cfg, Name: "ingress"})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	require.NoError(t, conn.EnsureTopology(t.Context()))
	sim, err := qbosim.New(qbosim.Options{
		Seed: 7, ClientID: "app", ClientSecret: "hush", VerifierToken: "verifier-token-1", Format: qbosim.Mixed,
		WebhookURL: "http://" + startIngress(t, conn) + "/webhooks/app", Aggregate: 5 * time.Millisecond,
		Faults: qbosim.Faults{Duplicate: 0.3, Reorder: 0.3},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sim.Close()) })
	api := httptest.NewServer(sim.Handler())
	t.Cleanup(api.Close)
	key := "test:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	connect(t, sim, redis, key, api.URL)
	return &feed{sim: sim, conn: conn, environ: []string{
		"LEDGERFEED_NATS_URL=" + nats, "LEDGERFEED_NATS_PROFILE=dev", "LEDGERFEED_REDIS_URL=" + redis,
		"LEDGERFEED_ADMIN_LISTEN=off", "LEDGERFEED_LOG_LEVEL=error", "LEDGERFEED_CONNECTION_KEYS=" + key,
		"LEDGERFEED_QBO_BASE_URL=" + api.URL, "LEDGERFEED_QBO_TOKEN_URL=" + api.URL + "/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=hush",
		"LEDGERFEED_PROCESSOR_SINKS=inventory=webhook:" + endpoint, "LEDGERFEED_PROCESSOR_WEBHOOK_SECRETS=inventory=" + hook,
		"LEDGERFEED_PROCESSOR_WEBHOOK_ALLOW=127.0.0.0/8", fmt.Sprint("LEDGERFEED_PROCESSOR_WEBHOOK_BATCH=", batch),
	}}
}

func startIngress(t *testing.T, conn *stream.Conn) (address string) {
	t.Helper()
	cfg := ingress.DefaultIngressConfig()
	cfg.Listen, cfg.Apps = "127.0.0.1:0", "app=verifier-token-1"
	server, err := ingress.New(ingress.Options{Config: cfg, Publisher: conn})
	require.NoError(t, err)
	stop := start(t, server.Run)
	t.Cleanup(stop)
	return server.Addr()
}

// connect connects the realm, as `ledgerfeed token import` does.
func connect(t *testing.T, sim *qbosim.Sim, redis, key, api string) {
	t.Helper()
	store, err := state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(redis)}})
	require.NoError(t, err)
	defer store.Close()
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "app", ClientSecret: "hush", TokenURL: api + "/oauth2/v1/tokens/bearer"})
	require.NoError(t, err)
	connections, err := connection.New(connection.Options{
		State: store, Config: connection.Config{Keys: []secret.String{secret.String(key)}}, Refresher: oauth,
	})
	require.NoError(t, err)
	sim.AddRealm(realm)
	access, refresh := sim.Connect(realm)
	now := time.Now()
	require.NoError(t, connections.Connect(t.Context(), realm, "app", qbo.Token{
		Access: access, Refresh: refresh, AccessExpires: now.Add(time.Hour),
		RefreshExpires: now.Add(100 * 24 * time.Hour), RefreshHardExpires: now.Add(5 * 365 * 24 * time.Hour),
	}))
}

func (f *feed) startProcessor(t *testing.T) (stop func()) {
	t.Helper()
	return start(t, func(ctx context.Context) error { return processor.Serve(ctx, f.environ) })
}

// start runs until stop is called, which waits for the end.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// flush waits until the ingress has every webhook.
func (f *feed) flush(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	require.NoError(t, f.sim.FlushWebhooks(ctx))
}

// settle waits until the app has everything.
func (f *feed) settle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		events, err := f.conn.Lag(t.Context(), stream.Events, "processor")
		if err != nil || events.Stored > 0 {
			return false
		}
		retry, err := f.conn.Lag(t.Context(), stream.Retry("inventory"), "processor-inventory")
		return err == nil && retry.Stored == 0
	}, patient, 10*time.Millisecond)
	dead, err := f.conn.DeadLetters(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, dead)
}
