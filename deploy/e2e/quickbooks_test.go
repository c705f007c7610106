package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// quickbooks is the simulator in its container.
type quickbooks struct {
	e     *engine
	relay string // where its webhooks are sent on to the published port
	at    atomic.Value
	made  atomic.Int64
}

// startRelay listens where containers reach this machine, and passes every webhook
// on to the port of the ingress that is published on the loopback interface alone.
func startRelay(t *testing.T, gateway string, port int) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(gateway, "0"))
	require.NoError(t, err)
	to := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String() + "/webhooks/demo"
}

// ask calls the control API.
func (q *quickbooks) ask(ctx context.Context, address, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+":8090"+path, &body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// viaPort has it send its webhooks to the published port; a restart forgets that.
func (q *quickbooks) viaPort(t *testing.T) {
	t.Helper()
	address := q.e.one(t, "quickbooks").address()
	q.at.Store(address)
	require.Eventually(t, func() bool {
		return q.ask(t.Context(), address, http.MethodPut, "/sim/webhook", map[string]string{"url": q.relay}, nil) == nil
	}, time.Minute, 200*time.Millisecond)
}

// load makes changes until ctx ends. A simulator that is away makes none.
func (q *quickbooks) load(ctx context.Context, realms []string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		step := map[string]any{"realm": realms[i%len(realms)], "count": 1}
		if q.ask(ctx, q.at.Load().(string), http.MethodPost, "/sim/step", step, nil) == nil {
			q.made.Add(1)
		}
	}
}

type key struct{ realm, entity, id string }

type state struct {
	Version int64
	Deleted bool
}

func (q *quickbooks) truth(t *testing.T, realms []string) map[key]state {
	t.Helper()
	all := map[key]state{}
	address := q.e.one(t, "quickbooks").address()
	for _, realm := range realms {
		var rows []struct {
			Realm, Entity, ID string
			Version           int64
			Deleted           bool
		}
		require.NoError(t, q.ask(t.Context(), address, http.MethodGet, "/sim/truth?realm="+realm, nil, &rows))
		for _, r := range rows {
			all[key{r.Realm, r.Entity, r.ID}] = state{r.Version, r.Deleted}
		}
	}
	return all
}

// held is what the database has.
func held(t *testing.T, e *engine) map[key]state {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), e.database(t))
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), "SELECT realm, entity, id, version, deleted FROM ledgerfeed.entity")
	require.NoError(t, err)
	all := map[key]state{}
	var k key
	var s state
	_, err = pgx.ForEachRow(rows, []any{&k.realm, &k.entity, &k.id, &s.Version, &s.Deleted}, func() error {
		all[k] = s
		return nil
	})
	require.NoError(t, err)
	return all
}

// difference is how the database at rest differs from the truth.
type difference struct {
	Lost, Stale, Extra int
	examples           []string
}

func compare(truth, held map[key]state) (d difference) {
	example := func(what string, k key, want, got state) {
		if len(d.examples) < 5 {
			d.examples = append(d.examples, fmt.Sprintf("%s %v: want %v, got %v", what, k, want, got))
		}
	}
	for k, want := range truth {
		got, ok := held[k]
		switch {
		case !ok && want.Deleted && !covered(k):
			// Deleted before anybody saw it, and of a type that CDC leaves out: nobody can learn of it.
		case !ok:
			d.Lost++
			example("lost", k, want, got)
		case want.Deleted && !got.Deleted, got.Version < want.Version:
			d.Stale++
			example("stale", k, want, got)
		case !want.Deleted && (got.Deleted || got.Version > want.Version):
			d.Extra++
			example("extra", k, want, got)
		}
	}
	for k, got := range held {
		if _, ok := truth[k]; !ok {
			d.Extra++
			example("extra", k, state{}, got)
		}
	}
	return d
}

func covered(k key) bool {
	info, ok := entity.Lookup(k.entity)
	return ok && info.CDC
}
