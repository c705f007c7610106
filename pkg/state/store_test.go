package state_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestOpen_NamesTheAddressAndNoPassword(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	l.Close()

	_, err = state.Open(t.Context(), state.Options{Config: at("redis://user:hunter2@" + addr + "/0")})
	require.ErrorIs(t, err, state.ErrUnreachable)
	require.ErrorContains(t, err, addr)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestConfig_ErrorsQuoteNothingOfTheURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "127.0.0.1:6379", "redis://", "redis://:hun#ter2@h:1/0", "redis://:hun/ter2@h:1/0", "redis://:hun ter2@h:1/0",
		"redis://:hun%zzter2@h:1/0", "redis://:hunter2@h:1/zero", "redis://:hunter2@h:1/0?ter2=1", "redis://h:ter2",
		"postgres://u:hunter2@h/0",
	} {
		for _, cluster := range []bool{false, true} {
			err := state.Config{URL: secret.String(url), Cluster: cluster}.Validate()
			if cluster && err == nil && strings.HasSuffix(url, "/zero") {
				continue // a cluster has no databases, the client takes no notice
			}
			require.ErrorContains(t, err, "redis://[user:password@]host:port", url)
			require.NotContains(t, err.Error(), "ter2", url)
			require.NotContains(t, err.Error(), "hun", url)
		}
	}
	require.NoError(t, state.DefaultConfig().Validate())
	require.NoError(t, state.Config{URL: "rediss://u:p%23w@h:6380/3"}.Validate())
	require.NoError(t, state.Config{URL: "redis://h:1?addr=h:2", Cluster: true}.Validate())
}

// A server that takes connections and says nothing holds nobody up for long.
func TestStore_EveryCallReturns(t *testing.T) {
	t.Parallel()
	p := startProxy(t, devtest.RealRedis(t))
	s, err := state.Open(t.Context(), state.Options{Config: at(p.url), Timeout: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	limiter := s.Limiter(state.LimitConfig{})
	lease, err := s.Lease(t.Context(), "9", time.Minute)
	require.NoError(t, err)
	release, err := limiter.Acquire(t.Context(), "9", qbo.Live)
	require.NoError(t, err)
	p.stall()

	ctx := t.Context()
	refs := []state.Ref{invoice("1")}
	calls := map[string]func() error{
		"Ping":          func() error { return s.Ping(ctx) },
		"Marks":         func() error { _, err := s.Marks(ctx, "9", "pg", refs); return err },
		"Advance":       func() error { return s.Advance(ctx, "9", "pg", []state.Advance{{Ref: refs[0], Version: 1}}) },
		"LiveIDs":       func() error { _, err := s.LiveIDs(ctx, "9", "pg", "Invoice"); return err },
		"Sinks":         func() error { _, err := s.Sinks(ctx); return err },
		"RegisterSinks": func() error { _, err := s.RegisterSinks(ctx, []string{"pg"}); return err },
		"Cursors":       func() error { _, err := s.Cursors(ctx, "9"); return err },
		"AdvanceCursors": func() error {
			return s.AdvanceCursors(ctx, "9", map[string]time.Time{"Invoice": noon})
		},
		"RewindCursors": func() error { return s.RewindCursors(ctx, "9", []string{"Invoice"}, noon) },
		"Generation":    func() error { _, err := s.Generation(ctx, "9"); return err },
		"MoveCursors": func() error {
			_, err := s.MoveCursors(ctx, "9", state.Move{To: map[string]time.Time{"Invoice": noon}})
			return err
		},
		"KeepLoaded":        func() error { return s.KeepLoaded(ctx, "9", "", "Invoice", noon) },
		"KeepPace":          func() error { return s.KeepPace(ctx, "9", "", state.Pace{Scanned: noon}) },
		"Now":               func() error { _, err := s.Now(ctx); return err },
		"ScheduleIn":        func() error { return s.ScheduleIn(ctx, "9", time.Minute) },
		"BoundDue":          func() error { _, err := s.BoundDue(ctx, allShards(), time.Hour); return err },
		"SaveScan":          func() error { return s.SaveScan(ctx, "9", state.Scan{ID: "a"}) },
		"Scans":             func() error { _, err := s.Scans(ctx, "9"); return err },
		"DropScan":          func() error { return s.DropScan(ctx, "9", "a") },
		"MarkDead":          func() error { return s.MarkDead(ctx, "9", time.Hour, state.DeadRecord{Ref: refs[0], Version: 1}) },
		"Dead":              func() error { _, err := s.Dead(ctx, "9", "pg", refs); return err },
		"Lease":             func() error { _, err := s.Lease(ctx, "8", time.Second); return err },
		"Renew":             func() error { return lease.Renew(ctx) },
		"Release":           func() error { return lease.Release(ctx) },
		"Acquire":           func() error { _, err := limiter.Acquire(ctx, "9", qbo.Live); return err },
		"Penalize":          func() error { return limiter.Penalize(ctx, "9", time.Second) },
		"Schedule":          func() error { return s.Schedule(ctx, "9", noon) },
		"ClaimDue":          func() error { _, err := s.ClaimDue(ctx, allShards(), 0, time.Second, 1); return err },
		"Extend":            func() error { return s.Extend(ctx, "9", time.Minute) },
		"Done":              func() error { return s.Done(ctx, "9", time.Minute) },
		"NextDue":           func() error { _, err := s.NextDue(ctx, allShards()); return err },
		"Due":               func() error { _, err := s.Due(ctx, "9"); return err },
		"NoteGaps":          func() error { _, err := s.NoteGaps(ctx, "9", []state.Gap{gap("1", noon)}); return err },
		"CountGaps":         func() error { return s.CountGaps(ctx, "9", []state.Gap{gap("1", noon)}, nil) },
		"Gaps":              func() error { _, err := s.Gaps(ctx, "9", 1); return err },
		"GapRealms":         func() error { _, err := s.GapRealms(ctx, noon, 1); return err },
		"LastTold":          func() error { _, err := s.LastTold(ctx, []string{"9"}); return err },
		"SaveAudit":         func() error { return s.SaveAudit(ctx, state.Audit{Realm: "9"}) },
		"Audits":            func() error { _, err := s.Audits(ctx, "9"); return err },
		"Heard":             func() error { _, err := s.Heard(ctx); return err },
		"DailyCoverage":     func() error { _, err := s.DailyCoverage(ctx, 1); return err },
		"Undelivered":       func() error { _, err := s.Undelivered(ctx, "9", "Invoice", nil); return err },
		"ForgetDead":        func() error { return s.ForgetDead(ctx, "9", "Invoice", map[string]bool{"1": true}) },
		"NoteBehind":        func() error { return s.NoteBehind(ctx, "9", "pg", map[string]time.Time{"Invoice": noon}) },
		"Behind":            func() error { _, _, err := s.Behind(ctx, "pg", 0); return err },
		"EndBehind":         func() error { return s.EndBehind(ctx, "pg", []state.Behind{{Realm: "9", Entity: "Invoice"}}) },
		"CountBehind":       func() error { _, err := s.CountBehind(ctx, "pg"); return err },
		"FirstUnconnected":  func() error { _, err := s.FirstUnconnected(ctx, "app", "9"); return err },
		"ForgetUnconnected": func() error { return s.ForgetUnconnected(ctx, "app", "9") },
		"WeeklyCoverage": func() error {
			_, err := s.WeeklyCoverage(ctx, "9", 1)
			return err
		},
		"Sightings": func() error {
			x := s.Sightings(nil)
			x.Note("9", webhook("create", "1", noon, time.Second, true))
			return x.Flush(ctx)
		},
		"Freshness": func() error { _, err := s.Freshness(ctx, "9"); return err },
	}
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			start := time.Now()
			err := call()
			if took := time.Since(start); err == nil || took > 3*time.Second {
				t.Errorf("%s: %v after %s", name, err, took)
			}
		})
	}
	wg.Go(func() {
		start := time.Now()
		release()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("release of a slot took %s", took)
		}
	})
	wg.Wait()
}

// Redis did what it was asked for, but its answer is lost on the way: the
// client asks again, and that must not count twice.
func TestStore_LostAnswersAreAskedAgain(t *testing.T) {
	t.Parallel()
	p := startProxy(t, devtest.RealRedis(t))
	s := open(t, at(p.url))
	l := s.Limiter(state.LimitConfig{PerMinute: 1, Burst: 2})

	// The scripts are known to Redis from here on: one command, one answer.
	first, err := s.Lease(t.Context(), "8", time.Minute)
	require.NoError(t, err)
	_, err = l.Acquire(t.Context(), "8", qbo.Live)
	require.NoError(t, err)

	p.drop()
	lease, err := s.Lease(t.Context(), "9", time.Minute)
	require.NoError(t, err)
	require.Greater(t, lease.Fence, first.Fence)
	require.NoError(t, lease.Renew(t.Context()))

	p.drop()
	_, err = l.Acquire(t.Context(), "9", qbo.Live)
	require.NoError(t, err)
	_, err = l.Acquire(t.Context(), "9", qbo.Live)
	require.NoError(t, err, "the burst is two")
}

// proxy stands between a store and its Redis.
type proxy struct {
	url   string
	stall func()
	drop  func() // loses the next answer and its connection
}

func startProxy(t *testing.T, url string) proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	stalled, ended := make(chan struct{}), make(chan struct{})
	var dropping atomic.Bool
	var copies sync.WaitGroup
	pump := func(dst, src net.Conn, answers bool) {
		defer dst.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			select {
			case <-stalled:
				<-ended
				return
			default:
			}
			if err != nil || answers && dropping.CompareAndSwap(true, false) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	backend := strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0")
	copies.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", backend)
			if err != nil {
				in.Close()
				continue
			}
			copies.Go(func() { pump(out, in, false) })
			copies.Go(func() { pump(in, out, true) })
			copies.Go(func() {
				<-ended
				in.Close()
				out.Close()
			})
		}
	})
	t.Cleanup(func() {
		close(ended)
		l.Close()
		copies.Wait()
	})
	return proxy{"redis://" + l.Addr().String() + "/0", func() { close(stalled) }, func() { dropping.Store(true) }}
}
