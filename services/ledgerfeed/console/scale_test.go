package console_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

var consoleRealms = flag.Int("console.realms", 300, "how many companies the pages are measured with")

// pageTime is how long the server may take for a page.
const pageTime = 300 * time.Millisecond

// Every page with many companies, on a real Redis: the fastest of five, since other
// tests run beside this one.
func TestScale_NoPageIsSlow(t *testing.T) {
	b := setupOn(t, devtest.RealRedis(t), func(*console.ConsoleConfig) {})
	b.fill(*consoleRealms)
	handler := b.server.Config.Handler
	middle := fmt.Sprint(firstRealm + *consoleRealms/2)
	for _, page := range append([]string{
		"/realms?state=live", "/realms?state=catching_up", "/realms?state=parked", "/realms?state=gap_suspected",
		"/realms?q=" + middle[:8], "/realms?after=" + middle, "/realms/" + middle, "/gaps?realm=" + middle, "/api/v1/overview", "/api/v1/realms",
	}, pages...) {
		best := time.Hour
		for range 5 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
			r.Host = "localhost"
			w := httptest.NewRecorder()
			began := time.Now()
			handler.ServeHTTP(w, r)
			best = min(best, time.Since(began))
			require.Equal(t, http.StatusOK, w.Code, "%s: %s", page, w.Body)
		}
		t.Logf("%8.1f ms  %s", float64(best)/float64(time.Millisecond), page)
		require.Less(t, best, pageTime, page)
	}
}

const firstRealm = 9341450000

// fill connects companies: most are scanned, one of a hundred is not yet, one of a
// thousand has gaps.
func (b *bundle) fill(n int) {
	b.Helper()
	ctx, now := b.Context(), time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			id := fmt.Sprint(firstRealm + i)
			if err := b.connections.Connect(ctx, id, "books", qbo.Token{Access: "a", Refresh: "r", AccessExpires: now.Add(time.Hour)}); err != nil {
				return err
			}
			if i%100 == 99 {
				return nil
			}
			to := now.Add(-2 * time.Minute)
			if err := b.store.AdvanceCursors(ctx, id, map[string]time.Time{"Bill": to, "Customer": to, "Invoice": to}); err != nil {
				return err
			}
			if i%1000 != 0 {
				return nil
			}
			gap := state.Gap{Realm: id, Ref: state.Ref{Entity: "Invoice", ID: "7"}, Version: 1, Found: now, Source: "cdc", Operation: "update", Verdict: state.VerdictLost}
			fresh, err := b.store.NoteGaps(ctx, id, []state.Gap{gap})
			if err != nil {
				return err
			}
			return b.store.CountGaps(ctx, id, fresh, nil)
		})
	}
	require.NoError(b, g.Wait())
}
