package stream_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// The settings the guarantees rest on, as the server says it has them.
func TestEnsureTopology_SetsWhatTheGuaranteesRestOn(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.conn.EnsureChanges(t.Context()))

	type settings struct {
		Subjects    []string
		Retention   jetstream.RetentionPolicy
		Discard     jetstream.DiscardPolicy
		MaxBytes    int64
		MaxAge      time.Duration
		Compression jetstream.StoreCompression
		Storage     jetstream.StorageType
		Replicas    int
		Duplicates  time.Duration
	}
	queue := settings{
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxBytes: 64 << 20,
		Compression: jetstream.NoCompression, Storage: jetstream.FileStorage, Replicas: 1, Duplicates: 2 * time.Minute,
	}
	events, retry, dead, changes := queue, queue, queue, queue
	events.Subjects, retry.Subjects, dead.Subjects, changes.Subjects = []string{"lf.event.>"}, []string{"lf.retry.>"}, []string{"lf.dead.>"}, []string{"lf.change.>"}
	dead.Retention, dead.MaxAge = jetstream.LimitsPolicy, 90*24*time.Hour
	changes.Retention, changes.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
	gaps := changes
	gaps.Subjects, gaps.MaxBytes, gaps.MaxAge = []string{"lf.gap.>"}, 256<<20, 30*24*time.Hour

	for name, want := range map[string]settings{"LF_EVENTS": events, "LF_RETRY": retry, "LF_DEAD": dead, "LF_CHANGES": changes, "LF_GAPS": gaps} {
		s, err := b.js.Stream(t.Context(), name)
		require.NoError(t, err)
		c := s.CachedInfo().Config
		got := settings{c.Subjects, c.Retention, c.Discard, c.MaxBytes, c.MaxAge, c.Compression, c.Storage, c.Replicas, c.Duplicates}
		require.Empty(t, cmp.Diff(want, got), name)
	}
}

func TestEnsureTopology_MakesChangesOnlyWhenAsked(t *testing.T) {
	b := setup(t)
	_, err := b.js.Stream(t.Context(), stream.ChangeStream)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestEnsureTopology_ManyAtOnce(t *testing.T) {
	url := devtest.NATS(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		c := connect(t, url)
		wg.Go(func() { errs[i] = c.EnsureTopology(t.Context()) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestEnsureTopology_NamesWhatDrifted(t *testing.T) {
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		field  string
	}{
		{"larger", func(c *jetstream.StreamConfig) { c.MaxBytes *= 2 }, "max_bytes"},
		{"drops the oldest", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
		{"limits messages", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 }, "max_msgs"},
		{"limits a realm", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 }, "max_msgs_per_subject"},
		{"subjects", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") }, "subjects"},
		{"duplicates", func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, "duplicate_window"},
		{"acknowledges nothing", func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			s, err := b.js.Stream(t.Context(), stream.EventStream)
			require.NoError(t, err)
			c := s.CachedInfo().Config
			tt.change(&c)
			_, err = b.js.UpdateStream(t.Context(), c)
			require.NoError(t, err)

			err = b.conn.EnsureTopology(t.Context())
			var drift *stream.DriftError
			require.ErrorAs(t, err, &drift)
			require.Equal(t, "LF_EVENTS", drift.Stream)
			require.Equal(t, tt.field, drift.Field)
			require.ErrorContains(t, err, "stream LF_EVENTS: "+tt.field+" is ")

			require.NoError(t, b.conn.UpdateTopology(t.Context()))
			require.NoError(t, b.conn.EnsureTopology(t.Context()))
		})
	}
}

// A stream that an earlier version created with compression can lose messages.
func TestEnsureTopology_TurnsCompressionOff(t *testing.T) {
	for _, name := range []string{stream.EventStream, stream.RetryStream, stream.DeadStream, stream.ChangeStream, stream.GapStream} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			require.NoError(t, b.conn.EnsureChanges(t.Context()))
			require.NoError(t, b.conn.Publish(t.Context(), env("1", 1)))
			devtest.CompressStream(t, b.url, name)
			compressed, err := b.conn.Compressed(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{name}, compressed)
			before := b.config(t, name)

			core, logs := observer.New(zap.InfoLevel)
			c, err := stream.Connect(t.Context(), stream.Options{Config: config(b.url), Logger: zap.New(core)})
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.EnsureTopology(t.Context()))
			require.NoError(t, c.EnsureChanges(t.Context()))
			compressed, err = c.Compressed(t.Context())
			require.NoError(t, err)
			require.Empty(t, compressed)
			require.Len(t, logs.FilterMessage("stream compression turned off").FilterField(telemetry.Stream(name)).All(), 1)
			before.Compression = jetstream.NoCompression
			require.Empty(t, cmp.Diff(before, b.config(t, name)), "nothing else is changed")
			require.EqualValues(t, 1, b.stored(t, stream.EventStream), "no message is lost by it")

			require.NoError(t, c.EnsureTopology(t.Context()))
			require.Len(t, logs.FilterMessage("stream compression turned off").All(), 1, "once")
		})
	}
}

// A process that may not update streams does not go on with one that loses messages.
func TestEnsureTopology_NamesTheCureOfACompressedStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, NoAuthUser: "feed",
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "feed", Password: "feed", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.UPDATE.LF_DEAD"}}}},
		},
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(20*time.Second))
	url := "nats://" + s.Addr().String()
	require.NoError(t, connect(t, url).EnsureTopology(t.Context()))
	devtest.CompressStream(t, "nats://admin:admin@"+s.Addr().String(), stream.DeadStream)

	err = connect(t, url).EnsureTopology(within(t, time.Second))
	require.ErrorContains(t, err, "turn off the compression of stream LF_DEAD")
	require.ErrorContains(t, err, "run `nats stream edit LF_DEAD --compression none`")
}

// Raising the limit is the remedy for a full stream.
func TestEnsureTopology_RaisesLimits(t *testing.T) {
	for _, tc := range []struct {
		stream   string
		change   func(*stream.Config)
		maxBytes int64
		maxAge   time.Duration
	}{
		{stream.EventStream, func(c *stream.Config) { c.EventsMaxBytes = 128 << 20 }, 128 << 20, 0},
		{stream.RetryStream, func(c *stream.Config) { c.RetryMaxBytes = 128 << 20 }, 128 << 20, 0},
		{stream.DeadStream, func(c *stream.Config) { c.DeadMaxBytes, c.DeadMaxAge = 128<<20, 100*24*time.Hour }, 128 << 20, 100 * 24 * time.Hour},
		{stream.ChangeStream, func(c *stream.Config) { c.ChangesMaxBytes = 128 << 20 }, 128 << 20, 0},
	} {
		t.Run(tc.stream, func(t *testing.T) {
			b := setup(t)
			require.NoError(t, b.conn.EnsureChanges(t.Context()))
			want := b.config(t, tc.stream)
			want.MaxBytes, want.MaxAge = tc.maxBytes, tc.maxAge

			c := connect(t, b.url, tc.change)
			require.NoError(t, c.EnsureTopology(t.Context()))
			require.NoError(t, c.EnsureChanges(t.Context()))
			require.Empty(t, cmp.Diff(want, b.config(t, tc.stream)), "only the limits are changed")
		})
	}
}

// A stream of a version whose limits were lower, or that an operator limited.
func TestEnsureTopology_RaisesLimitsThatAreNoSettings(t *testing.T) {
	for _, tc := range []struct {
		name, stream string
		change       func(*jetstream.StreamConfig)
	}{
		{"gaps, size", stream.GapStream, func(c *jetstream.StreamConfig) { c.MaxBytes /= 2 }},
		{"gaps, age", stream.GapStream, func(c *jetstream.StreamConfig) { c.MaxAge /= 2 }},
		{"events, age", stream.EventStream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := setup(t)
			want := b.config(t, tc.stream)
			lower := want
			tc.change(&lower)
			_, err := b.js.UpdateStream(t.Context(), lower)
			require.NoError(t, err)
			require.NoError(t, b.conn.EnsureTopology(t.Context()))
			require.Empty(t, cmp.Diff(want, b.config(t, tc.stream)))
		})
	}
}

// A stream of the first versions: compressed, smaller, and without atomic batches.
func TestEnsureTopology_AppliesAllThatIsSafeAtOnce(t *testing.T) {
	b := setup(t)
	want := b.config(t, stream.EventStream)
	require.True(t, want.AllowAtomicPublish)
	require.NoError(t, b.js.DeleteStream(t.Context(), stream.EventStream))
	first := want
	first.AllowAtomicPublish, first.Compression, first.MaxBytes = false, jetstream.S2Compression, 32<<20
	_, err := b.js.CreateStream(t.Context(), first)
	require.NoError(t, err)
	require.NoError(t, connect(t, b.url).EnsureTopology(t.Context()))
	require.Empty(t, cmp.Diff(want, b.config(t, stream.EventStream)))
}

// What did not fit fits after a restart with a larger limit.
func TestEnsureTopology_ARaisedLimitMakesRoom(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.EventsMaxBytes = 1 << 20 })
	for i := range 1000 {
		_, err := b.js.Publish(t.Context(), "lf.event.00.1", make([]byte, 8<<10))
		if err != nil {
			break
		}
		require.Less(t, i, 999, "the stream is never full")
	}
	full := env("1", 1)
	full.Events[0].EntityId = strings.Repeat("9", 16<<10)
	require.ErrorIs(t, b.conn.Publish(t.Context(), full), stream.ErrNotDurable)

	c := connect(t, b.url, func(c *stream.Config) { c.EventsMaxBytes = 2 << 20 })
	require.NoError(t, c.EnsureTopology(t.Context()))
	require.NoError(t, b.conn.Publish(t.Context(), full), "also of a process that has the smaller limit and still runs")
}

func TestEnsureTopology_NeverLowersALimit(t *testing.T) {
	for _, tc := range []struct {
		stream, field string
		change        func(*stream.Config)
		remedy        []string
	}{
		{stream.EventStream, "max_bytes", func(c *stream.Config) { c.EventsMaxBytes = 32 << 20 }, []string{"set nats.events_max_bytes to 67108864", "nats stream edit LF_EVENTS --max-bytes 33554432"}},
		{stream.RetryStream, "max_bytes", func(c *stream.Config) { c.RetryMaxBytes = 32 << 20 }, []string{"set nats.retry_max_bytes to 67108864"}},
		{stream.DeadStream, "max_age", func(c *stream.Config) { c.DeadMaxAge = 48 * time.Hour }, []string{"set nats.dead_max_age to 2160h0m0s", "nats stream edit LF_DEAD --max-age 48h0m0s"}},
		{stream.ChangeStream, "max_age", func(c *stream.Config) { c.ChangesMaxAge = 48 * time.Hour }, []string{"set nats.changes_max_age to 0s"}},
	} {
		t.Run(tc.stream+" "+tc.field, func(t *testing.T) {
			b := setup(t)
			require.NoError(t, b.conn.EnsureChanges(t.Context()))
			before := b.config(t, tc.stream)
			c := connect(t, b.url, tc.change)
			err := errors.Join(c.EnsureTopology(t.Context()), c.EnsureChanges(t.Context()))
			var drift *stream.DriftError
			require.ErrorAs(t, err, &drift)
			require.Equal(t, tc.stream, drift.Stream)
			require.Equal(t, tc.field, drift.Field)
			for _, want := range tc.remedy {
				require.ErrorContains(t, err, want)
			}
			require.Empty(t, cmp.Diff(before, b.config(t, tc.stream)))
		})
	}
}

// A stream with another difference is somebody else's, or wrong: it is left alone.
func TestEnsureTopology_RaisesNothingBesideAnotherDifference(t *testing.T) {
	b := setup(t)
	before := b.config(t, stream.EventStream)
	before.Duplicates = time.Minute
	_, err := b.js.UpdateStream(t.Context(), before)
	require.NoError(t, err)
	before = b.config(t, stream.EventStream)
	err = connect(t, b.url, func(c *stream.Config) { c.EventsMaxBytes = 128 << 20 }).EnsureTopology(t.Context())
	require.ErrorContains(t, err, "duplicate_window")
	require.Empty(t, cmp.Diff(before, b.config(t, stream.EventStream)))
}

// Replicas of a rolling upgrade start at once with limits of their own: the largest wins.
func TestEnsureTopology_TheLargestOfManyLimitsWins(t *testing.T) {
	for round := range 5 {
		b := setup(t)
		sizes := []int64{96 << 20, 128 << 20, 160 << 20, 64 << 20}
		var wg sync.WaitGroup
		errs := make([]error, 2*len(sizes))
		for i := range errs {
			c := connect(t, b.url, func(c *stream.Config) { c.EventsMaxBytes = sizes[i%len(sizes)] })
			wg.Go(func() { errs[i] = c.EnsureTopology(t.Context()) })
		}
		wg.Wait()
		require.EqualValues(t, 160<<20, b.config(t, stream.EventStream).MaxBytes, "round %d", round)
		for i, err := range errs {
			if sizes[i%len(sizes)] == 160<<20 {
				require.NoError(t, err)
			}
		}
	}
}

// A process that read the limits before another one raised them writes its lower ones
// afterwards; who raised them sees it.
func TestEnsureTopology_RaisesALimitAgainThatALateUpdateLowered(t *testing.T) {
	b := setup(t)
	stale := b.config(t, stream.EventStream)
	stale.MaxBytes = 96 << 20
	nc, err := nats.Connect(b.url)
	require.NoError(t, err)
	defer nc.Close()
	updated, err := nc.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.UPDATED.LF_EVENTS")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	c := connect(t, b.url, func(c *stream.Config) { c.EventsMaxBytes = 128 << 20 })
	done := make(chan error, 1)
	go func() { done <- c.EnsureTopology(t.Context()) }()
	_, err = updated.NextMsgWithContext(within(t, 30*time.Second))
	require.NoError(t, err)
	_, err = b.js.UpdateStream(t.Context(), stale)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.EqualValues(t, 128<<20, b.config(t, stream.EventStream).MaxBytes)
}

// The server cannot give what is configured.
func TestEnsureTopology_SaysWhyALimitCannotBeRaised(t *testing.T) {
	b := setup(t)
	err := connect(t, b.url, func(c *stream.Config) { c.RetryMaxBytes = 1 << 60 }).EnsureTopology(t.Context())
	require.ErrorContains(t, err, "raise the limits of stream LF_RETRY")
	require.ErrorContains(t, err, "max_file_store")
	require.EqualValues(t, 64<<20, b.config(t, stream.RetryStream).MaxBytes)
}

func TestReady(t *testing.T) {
	b := setup(t)
	require.NoError(t, b.conn.Ready(t.Context()))

	require.NoError(t, b.js.DeleteStream(t.Context(), stream.EventStream))
	require.NoError(t, b.conn.Ready(t.Context()), "a stream that is gone is made again")
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1)))

	b.conn.Close()
	require.ErrorIs(t, b.conn.Ready(t.Context()), stream.ErrUnreachable)
}

func TestEnsureTopology_SaysThatTheBrokerDoesNotAnswer(t *testing.T) {
	link, err := faultproxy.Start(t.Context(), strings.TrimPrefix(devtest.NATS(t), "nats://"), nil)
	require.NoError(t, err)
	defer link.Close()
	c := connect(t, "nats://"+link.Addr())
	link.Mute()
	err = c.EnsureTopology(within(t, time.Second))
	require.ErrorIs(t, err, stream.ErrUnreachable)
	require.ErrorContains(t, err, link.Addr())
	require.NotContains(t, err.Error(), stream.RetryStream, "one is enough to know")
}

// Who is asked to end must not wait for each server in turn.
func TestConnect_EndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	connected := make(chan error, 1)
	go func() {
		_, err := stream.Connect(ctx, stream.Options{Config: config("nats://" + silent.Addr().String())})
		connected <- err
	}()
	client, err := silent.Accept()
	require.NoError(t, err)
	defer client.Close()
	cancel()
	err = <-connected
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, stream.ErrUnreachable)
	// Connect did not wait until the client had given up: it still waits.
	require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestConnect_SaysWhereNobodyAnswers(t *testing.T) {
	_, err := stream.Connect(within(t, time.Second), stream.Options{Config: config("nats://127.0.0.1:1")})
	require.ErrorIs(t, err, stream.ErrUnreachable)
	require.ErrorContains(t, err, "nats://127.0.0.1:1")
}

func TestConfig_Validate(t *testing.T) {
	require.NoError(t, stream.DefaultConfig().Validate())
	tests := []struct {
		name   string
		change func(*stream.Config)
		want   string
	}{
		{"no url", func(c *stream.Config) { c.URL = "" }, "nats.url"},
		{"no host", func(c *stream.Config) { c.URL = "localhost" }, "nats.url"},
		{"a bad second url", func(c *stream.Config) { c.URL += ",nats://" }, "nats.url"},
		{"profile", func(c *stream.Config) { c.Profile = "quick" }, `nats.profile is "quick"`},
		{"events", func(c *stream.Config) { c.EventsMaxBytes = 100 }, "nats.events_max_bytes is 100"},
		{"retry", func(c *stream.Config) { c.RetryMaxBytes = -1 }, "nats.retry_max_bytes is -1"},
		{"dead", func(c *stream.Config) { c.DeadMaxBytes = 0 }, "nats.dead_max_bytes is 0"},
		{"dead age", func(c *stream.Config) { c.DeadMaxAge = time.Minute }, "nats.dead_max_age is 1m0s"},
		{"changes", func(c *stream.Config) { c.ChangesMaxBytes = 0 }, "nats.changes_max_bytes is 0"},
		{"changes age", func(c *stream.Config) { c.ChangesMaxAge = 1 }, "nats.changes_max_age is 1ns"},
		{"timeout", func(c *stream.Config) { c.PublishTimeout = 0 }, "nats.publish_timeout is 0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := stream.DefaultConfig()
			tt.change(&c)
			require.ErrorContains(t, c.Validate(), tt.want)
		})
	}

	c := stream.DefaultConfig()
	c.URL = "nats://feed:hunter2@broker:4222"
	err := c.Validate()
	require.ErrorContains(t, err, "nats.credentials_file")
	require.NotContains(t, err.Error(), "hunter2")
}
