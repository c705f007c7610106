package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func refOf(ref qbosim.Ref) state.Ref { return state.Ref{Entity: ref.Entity, ID: ref.ID} }

// rotating scans while the tokens are replaced during a call; 0 is none.
func (v *verified) rotating(at int) {
	v.t.Helper()
	client := v.client
	defer func() { v.client = client }()
	v.onCall(at, func() { v.sim.ExpireAccess(v.realm) })
	report := v.request(v.reconciler(), reconciler.Request{Realms: []string{v.realm}, Grace: v.config.Grace})
	if len(report.Parked) > 0 {
		// Redis was put back to a refresh token that Intuit has replaced: only a
		// person can help.
		v.connect()
		report = v.request(v.reconciler(), reconciler.Request{Realms: []string{v.realm}, Grace: v.config.Grace})
	}
	require.Empty(v.t, report.Errors)
}

// onCall puts a hook before the n-th call of the API.
func (v *verified) onCall(n int, hook func()) {
	var calls atomic.Int64
	v.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		if calls.Add(1) == int64(n) {
			hook()
		}
		quickbooks.ServeHTTP(w, r)
	})
}

// dying scans with a replica that is killed during a call: from then on nothing of it
// reaches Redis or the broker, and its lease is left to run out.
func (v *verified) dying(at int) {
	v.t.Helper()
	redis, nats := v.proxied(v.redisURL), v.proxied(v.natsURL)
	victim := *v.bundle
	var err error
	victim.store, err = state.Open(v.t.Context(), state.Options{
		Config: state.Config{URL: secret.String(redis.url)}, Now: v.clock.Now, Timeout: time.Second,
	})
	require.NoError(v.t, err)
	defer victim.store.Close()
	victim.conn = v.dial(nats.url)
	defer victim.conn.Close()
	victim.openConnections()
	dead := &verified{world: &world{bundle: &victim, testing: v.testing}}
	ctx, kill := context.WithCancel(v.t.Context())
	defer kill()
	dead.onCall(at, func() {
		redis.Cut()
		nats.Cut()
		kill()
	})
	report, err := victim.reconciler().Reconcile(ctx, reconciler.Request{Realms: []string{v.realm}, Grace: v.config.Grace})
	if err != nil {
		require.ErrorIs(v.t, err, context.Canceled)
	} else {
		require.Empty(v.t, report.Errors, "it needed fewer calls, and lives")
	}
}

type proxied struct {
	*devtest.Proxy
	url string
}

// proxied is a server behind a proxy.
func (v *verified) proxied(server string) proxied {
	v.t.Helper()
	u, err := url.Parse(server)
	require.NoError(v.t, err)
	p := devtest.NewProxy(v.testing, u.Host)
	u.Host = p.Addr()
	return proxied{p, u.String()}
}

// saved is all that Redis would keep over a restart.
func (w *world) saved() map[string][]string {
	w.t.Helper()
	ctx, db := w.t.Context(), w.store.Redis()
	all := map[string][]string{}
	for it := db.Scan(ctx, 0, "lf:1:*", 1000).Iterator(); it.Next(ctx); {
		key := it.Val()
		switch kind := db.Type(ctx, key).Val(); kind {
		case "hash":
			for f, v := range db.HGetAll(ctx, key).Val() {
				all["HSET "+key] = append(all["HSET "+key], f, v)
			}
		case "zset":
			for _, z := range db.ZRangeWithScores(ctx, key, 0, -1).Val() {
				all["ZADD "+key] = append(all["ZADD "+key], fmt.Sprintf("%.0f", z.Score), fmt.Sprint(z.Member))
			}
		case "string":
			all["SET "+key] = []string{db.Get(ctx, key).Val()}
		case "set":
			all["SADD "+key] = db.SMembers(ctx, key).Val()
		default:
			require.Failf(w.t, "unknown kind", "%s is a %s", key, kind)
		}
	}
	return all
}

// putBack makes Redis what it was.
func (w *world) putBack(saved map[string][]string) {
	w.t.Helper()
	ctx, db := w.t.Context(), w.store.Redis()
	require.NoError(w.t, db.FlushDB(ctx).Err())
	for key, values := range saved {
		command, name, _ := strings.Cut(key, " ")
		args := []any{command, name}
		for _, v := range values {
			args = append(args, v)
		}
		require.NoError(w.t, db.Do(ctx, args...).Err())
	}
}

// naive is Intuit's advice, and the control: ask CDC for each entity, back to the last
// event of it that was processed.
type naive struct {
	*world
	cursors map[string]time.Time
}

func newNaive(w *world) *naive {
	n := &naive{world: w, cursors: map[string]time.Time{}}
	for _, entity := range w.config.CDCEntities {
		n.cursors[entity] = w.clock.Now()
	}
	return n
}

func (n *naive) processed(ref qbosim.Ref, at time.Time) {
	if at.After(n.cursors[ref.Entity]) {
		n.cursors[ref.Entity] = at
	}
}

func (n *naive) heal() { n.scan(round{}) }

// scan is spared what goes wrong with Redis, the tokens and the replica: that the broker
// loses its tail is enough.
func (n *naive) scan(r round) {
	n.t.Helper()
	for _, entity := range n.config.CDCEntities {
		res, err := n.client.CDC(n.t.Context(), n.realm, []string{entity}, n.cursors[entity])
		if errors.Is(err, qbo.ErrTooOld) {
			continue
		}
		require.NoError(n.t, err)
		var changes []state.Advance
		for _, item := range res.Entities[entity] {
			n.processed(qbosim.Ref{Entity: entity}, item.LastUpdated)
			if !r.tailLost {
				changes = append(changes, state.Advance{Ref: state.Ref{Entity: entity, ID: item.ID}, Version: item.Version()})
			}
		}
		n.feed.mu.Lock()
		err = n.feed.deliverLocked(n.t.Context(), n.realm, changes)
		n.feed.mu.Unlock()
		require.NoError(n.t, err)
	}
}
