package stream_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
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
		{"size", func(c *jetstream.StreamConfig) { c.MaxBytes /= 2 }, "max_bytes"},
		{"drops the oldest", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
		{"forgets by age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age"},
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

// No guarantee rests on it: a stream of an earlier version, which was compressed,
// goes on as it is, and an operator may have it either way.
func TestEnsureTopology_LeavesCompressionToTheOperator(t *testing.T) {
	b := setup(t)
	s, err := b.js.Stream(t.Context(), stream.EventStream)
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.Compression = jetstream.S2Compression
	_, err = b.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	require.NoError(t, b.conn.Publish(t.Context(), env("1", 1)))

	require.NoError(t, b.conn.UpdateTopology(t.Context()))
	s, err = b.js.Stream(t.Context(), stream.EventStream)
	require.NoError(t, err)
	require.Equal(t, jetstream.NoCompression, s.CachedInfo().Config.Compression)
	require.EqualValues(t, 1, b.stored(t, stream.EventStream), "nothing is lost by it")
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
