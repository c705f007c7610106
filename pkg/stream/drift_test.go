package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// A stream that was made again or edited by hand while services run is named, with what to
// do.
func TestDrift_NamesWhatSomebodyChanged(t *testing.T) {
	for field, change := range map[string]func(*jetstream.StreamConfig){
		"storage":              func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention":            func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy },
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Minute },
		"max_msgs":             func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_bytes":            func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"compression":          func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression },
	} {
		t.Run(field, func(t *testing.T) {
			b := setup(t)
			require.NoError(t, b.conn.Drift(t.Context()))
			s, err := b.js.Stream(t.Context(), stream.EventStream)
			require.NoError(t, err)
			config := s.CachedInfo().Config
			require.NoError(t, b.js.DeleteStream(t.Context(), stream.EventStream))
			change(&config)
			config.Duplicates = min(config.Duplicates, max(config.MaxAge, 0))
			if config.MaxAge == 0 {
				config.Duplicates = s.CachedInfo().Config.Duplicates
			}
			if config.Storage == jetstream.MemoryStorage || config.Retention == jetstream.LimitsPolicy {
				config.PersistMode = jetstream.DefaultPersistMode
			}
			_, err = b.js.CreateStream(t.Context(), config)
			require.NoError(t, err)
			found := map[string]*stream.DriftError{}
			for _, d := range stream.Drifts(b.conn.Drift(t.Context())) {
				found[d.Field] = d
			}
			require.Contains(t, found, field)
			require.Equal(t, stream.EventStream, found[field].Stream)
			require.NotEmpty(t, found[field].Remedy)
		})
	}
}

// What is larger than configured is no drift, and what is gone is made again by Ready.
func TestDrift_MoreIsNone(t *testing.T) {
	b := setup(t, func(c *stream.Config) { c.EventsMaxBytes = 32 << 20 })
	s, err := b.js.Stream(t.Context(), stream.EventStream)
	require.NoError(t, err)
	config := s.CachedInfo().Config
	config.MaxBytes = 128 << 20
	_, err = b.js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, b.conn.Drift(t.Context()))
	require.NoError(t, b.js.DeleteStream(t.Context(), stream.EventStream))
	require.NoError(t, b.conn.Drift(t.Context()))
}
