package processor_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
)

// childEnv makes the test binary the service, to be killed.
const childEnv = "PROCESSOR_TEST_CHILD"

// beChild runs the service if this process is a child of a test.
func beChild() {
	if os.Getenv(childEnv) != "" {
		os.Exit(lifecycle.Main("processor", func(ctx context.Context) error { return processor.Serve(ctx, os.Environ()) }))
	}
}

// service is the service in a process of its own, writing to a file. Its way to
// the broker and to Redis can be cut.
type service struct {
	b           *bundle
	nats, redis *gate
	path        string
	env         []string // more of it, which wins
	kills       int
}

func newService(t *testing.T, b *bundle) *service {
	b.grant(realm, time.Now())
	return &service{
		b: b, nats: newGate(t, hostOf(t, b.natsURL)), redis: newGate(t, hostOf(t, b.redisURL)),
		path: filepath.Join(t.TempDir(), "changes.jsonl"),
	}
}

// start returns a running child and what kills it.
func (s *service) start(t *testing.T) (kill func()) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"=1",
		"LEDGERFEED_NATS_URL=nats://"+s.nats.address, "LEDGERFEED_NATS_PROFILE=dev",
		"LEDGERFEED_REDIS_URL=redis://"+s.redis.address+"/0",
		"LEDGERFEED_ADMIN_LISTEN=off", "LEDGERFEED_LOG_FORMAT=console", "LEDGERFEED_LOG_LEVEL=error",
		"LEDGERFEED_QBO_BASE_URL="+s.b.api.URL, "LEDGERFEED_QBO_TOKEN_URL="+s.b.api.URL+"/oauth2/v1/tokens/bearer",
		"LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=hush",
		"LEDGERFEED_CONNECTION_KEYS=test:"+base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LEDGERFEED_PROCESSOR_SINKS=file=jsonl:"+s.path, "LEDGERFEED_PROCESSOR_ACK_WAIT=1s",
	)
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	killed := false
	kill = func() {
		if !killed {
			killed = true
			s.kills++
			require.NoError(t, cmd.Process.Kill())
			cmd.Wait()
			s.b.forgetSlots(t)
		}
	}
	t.Cleanup(kill)
	return kill
}

// forgetSlots is the time after which calls of a dead process are not counted any
// more: 130 s.
func (b *bundle) forgetSlots(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also for the cleanup
	keys, err := b.store.Redis().Keys(ctx, "lf:tmp:1:slot:*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.NoError(t, b.store.Redis().Del(ctx, key).Err())
	}
}

func (s *service) snapshot(t *testing.T) map[sink.Ref]sink.Row {
	t.Helper()
	held, err := jsonl.Snapshot(t.Context(), s.path)
	require.NoError(t, err)
	return held
}

// lines counts the deliveries of each change.
func (s *service) lines(t *testing.T) map[string]int {
	t.Helper()
	count := map[string]int{}
	for r, err := range jsonl.Records(t.Context(), s.path) {
		require.NoError(t, err)
		count[r.Key]++
	}
	return count
}

// finish lets a last process deliver the rest, and compares.
func (s *service) finish(t *testing.T) {
	t.Helper()
	kill := s.start(t)
	require.Eventually(t, func() bool {
		lag, err := s.b.conn.Lag(t.Context(), stream.Events, "processor")
		return err == nil && lag.Stored == 0
	}, patient, 10*time.Millisecond)
	kill()
	held := s.snapshot(t)
	truth := map[qbosim.Ref]qbosim.State{}
	for _, r := range s.b.sim.Realms() {
		for ref, state := range s.b.sim.Truth(r) {
			truth[ref] = state
			row := held[sink.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID}]
			require.Equal(t, state.Deleted, row.Deleted, ref)
			require.Equal(t, state.Version, row.Version, ref)
		}
	}
	require.Len(t, held, len(truth))
	require.Empty(t, s.b.dead())
}

// The child dies between write and mark: the change comes twice, with the same
// key, and is not lost.
func TestService_KilledBetweenWriteAndMark(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := newService(t, b)
	bill := b.create("Bill", nil)
	envs := b.webhooks()

	// Marks are read before the write and moved after it: in between Redis goes.
	b.sim.SetFaults(qbosim.Faults{Latency: 300 * time.Millisecond})
	kill := s.start(t)
	b.publish(envs...)
	require.Eventually(t, func() bool { return b.calls() > 0 }, patient, time.Millisecond)
	s.redis.close()
	require.Eventually(t, func() bool { return len(s.snapshot(t)) == 1 }, patient, time.Millisecond)
	kill()
	require.Zero(t, b.marks("file", "Bill", bill.ID).Version)

	s.redis.open(t)
	b.sim.SetFaults(qbosim.Faults{})
	s.finish(t)
	for key, n := range s.lines(t) {
		require.Equal(t, 2, n, key)
	}
}

// The child dies between mark and ack: the message comes again, the change does not.
func TestService_KilledBetweenMarkAndAck(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := newService(t, b)
	bill := b.create("Bill", nil)
	envs := b.webhooks()
	b.sim.SetFaults(qbosim.Faults{Latency: 300 * time.Millisecond})
	kill := s.start(t)
	b.publish(envs...)
	require.Eventually(t, func() bool { return b.calls() > 0 }, patient, time.Millisecond)
	s.nats.close()
	require.Eventually(t, func() bool { return b.marks("file", "Bill", bill.ID).Version > 0 }, patient, time.Millisecond)
	kill()

	s.nats.open(t)
	b.sim.SetFaults(qbosim.Faults{})
	calls := b.calls()
	s.finish(t)
	require.Equal(t, calls, b.calls())
	for key, n := range s.lines(t) {
		require.Equal(t, 1, n, key)
	}
}

// I5: killed at any moment, again and again, under load: nothing is lost, and
// each change comes at most once more for each kill.
func TestService_KilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := newService(t, b)
	realms := []string{realm}
	for i := range 5 {
		realms = append(realms, fmt.Sprint(500+i))
		b.connect(realms[i+1])
		// By the clock of the process, which is not the test's: it must not need a
		// refresh. Killed between Intuit's answer and Redis, the new token is lost.
		b.grant(realms[i+1], time.Now())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 6 {
		kill := s.start(t)
		before := b.calls()
		for range 5 {
			for range 20 {
				b.clock.Advance(time.Duration(rng.IntN(300)) * time.Millisecond)
				b.stir(rng, realms[rng.IntN(len(realms))])
			}
			b.publish(b.webhooks()...)
		}
		// Some way into the work, which the calls tell of.
		most := before + 1 + rng.IntN(12)
		require.Eventually(t, func() bool { return b.calls() >= most || b.idle(t) }, patient, time.Millisecond)
		kill()
	}
	s.finish(t)
	for key, n := range s.lines(t) {
		require.LessOrEqual(t, n, 1+s.kills, key)
	}
}

// stir makes a change that CDC would tell of, too: no other record takes its time
// to be found missing.
func (b *bundle) stir(rng *rand.Rand, realm string) {
	b.t.Helper()
	var live []qbosim.Ref
	for ref, state := range b.sim.Truth(realm) {
		if !state.Deleted {
			live = append(live, ref)
		}
	}
	slices.SortFunc(live, func(x, y qbosim.Ref) int { return strings.Compare(x.Entity+x.ID, y.Entity+y.ID) })
	var err error
	switch what := rng.IntN(10); {
	case len(live) == 0 || what < 4:
		_, err = b.sim.Create(realm, []string{"Bill", "Invoice", "Customer"}[rng.IntN(3)], nil)
	case what < 8:
		err = b.sim.Update(live[rng.IntN(len(live))], nil)
	default:
		err = b.sim.Delete(live[rng.IntN(len(live))])
	}
	require.NoError(b.t, err)
}

func (b *bundle) idle(t *testing.T) bool {
	lag, err := b.conn.Lag(t.Context(), stream.Events, "processor")
	return err == nil && lag.Stored == 0
}

func TestServe_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := []string{
		"LEDGERFEED_QBO_CLIENT_ID=app", "LEDGERFEED_QBO_CLIENT_SECRET=hush", "LEDGERFEED_ADMIN_LISTEN=off",
		"LEDGERFEED_CONNECTION_KEYS=test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LEDGERFEED_PROCESSOR_SINKS=jsonl:" + filepath.Join(t.TempDir(), "x"), "LEDGERFEED_LOG_LEVEL=error",
	}
	for name, row := range map[string]struct {
		env  string
		want string
		code int
	}{
		"no sink":      {"LEDGERFEED_PROCESSOR_SINKS=", "processor.sinks is empty", lifecycle.ExitUsage},
		"odd sink":     {"LEDGERFEED_PROCESSOR_SINKS=tape:/dev/st0", "entry 1", lifecycle.ExitUsage},
		"batch size":   {"LEDGERFEED_PROCESSOR_BATCH_SIZE=500", "processor.batch_size 500", lifecycle.ExitUsage},
		"typing error": {"LEDGERFEED_PROCESSOR_SINK=jsonl:x", "nearest is LEDGERFEED_PROCESSOR_SINKS", lifecycle.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var environ []string
			key, _, _ := strings.Cut(row.env, "=")
			for _, e := range good {
				if !strings.HasPrefix(e, key+"=") {
					environ = append(environ, e)
				}
			}
			err := processor.Serve(t.Context(), append(environ, row.env))
			require.ErrorContains(t, err, row.want)
			require.Equal(t, row.code, lifecycle.ExitCode(err))
		})
	}
}

// A retry queue is full: what its sink did not get is noted before the message is acked.
// Killed at any moment, again and again, the other sink gets everything and no note
// is missing.
func TestService_KilledWhileARetryQueueIsFull(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *stream.Config) { c.RetryMaxBytes = 1 << 20 })
	s := newService(t, b)
	s.env = []string{
		"LEDGERFEED_NATS_RETRY_MAX_BYTES=1048576", "LEDGERFEED_PROCESSOR_WEBHOOK_ALLOW=127.0.0.0/8",
		"LEDGERFEED_PROCESSOR_WEBHOOK_SECRETS=down=whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"LEDGERFEED_PROCESSOR_SINKS=file=jsonl:" + s.path + ",down=webhook:http://127.0.0.1:9/", // discard: nobody listens
	}
	b.fillRetry("down", qbosim.Ref{Realm: realm, Entity: "Bill", ID: "1"})
	rng := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		kill := s.start(t)
		before := b.calls()
		for range 20 {
			b.clock.Advance(time.Duration(rng.IntN(300)) * time.Millisecond)
			b.stir(rng, realm)
			b.publish(b.webhooks()...)
		}
		most := before + 1 + rng.IntN(12)
		require.Eventually(t, func() bool { return b.calls() >= most || b.idle(t) }, patient, time.Millisecond)
		kill()
	}
	s.finish(t)
	notes := b.behind("down")
	for ref, truth := range b.sim.Truth(realm) {
		require.Zero(t, b.marks("down", ref.Entity, ref.ID).Version)
		note, ok := notes[realm+" "+ref.Entity]
		require.True(t, ok, "nobody knows that the sink lacks %v", ref)
		require.False(t, note.Oldest.After(truth.LastUpdated.Add(time.Second)))
	}
}
