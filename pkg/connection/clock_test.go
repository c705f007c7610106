package connection_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// wrongClocks are those of replicas whose time is not set.
var wrongClocks = []time.Duration{-48 * time.Hour, -8 * time.Minute, 8 * time.Minute, 48 * time.Hour}

// A company whose new token is refused is left alone for a minute, not for as long as the
// clock of a replica is behind; one whose clock is ahead waits as well.
func TestToken_AWrongClockDoesNotChangeAHold(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		first := b.bounded()
		b.connect(first)
		b.reject(first, b.token(first))
		b.reject(first, b.token(first))
		for _, off := range wrongClocks {
			s := b.bounded()
			s.SetOwnClock(func() time.Time { return time.Now().Add(off) })
			delay, held := connection.RetryAfter(b.tokenErr(s))
			require.True(t, held, off)
			require.LessOrEqual(t, delay, time.Minute, off)
			require.Greater(t, delay, 40*time.Second, off)
		}
	})
}

// A token is replaced when it expires, and not before, whatever the clock of the replica.
func TestToken_AWrongClockDoesNotChangeADeadline(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		first := b.bounded()
		for _, off := range wrongClocks {
			s := b.bounded()
			s.SetOwnClock(func() time.Time { return time.Now().Add(off) })

			token := b.intuit.authorize(time.Now())
			require.NoError(t, first.Connect(t.Context(), realm, "books", token))
			require.Equal(t, token.Access, b.token(s), "it is good for an hour, off by %s", off)

			token.AccessExpires = time.Now().Add(-time.Minute)
			require.NoError(t, first.Connect(t.Context(), realm, "books", token))
			b.setNow(time.Now().Add(off)) // by which the answer is dated
			require.NotEqual(t, token.Access, b.token(s), "it has expired, off by %s", off)
			b.setNow(time.Time{})
			require.WithinDuration(t, time.Now().Add(time.Hour), b.get(first).Token.AccessExpires, time.Minute, "off by %s", off)
		}
	})
}

// A consent whose token was slow to store, as while Redis is out of memory, does not replace
// that of a later consent: Intuit no longer takes it.
func TestConnect_ALaterConsentStays(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		slow, other := b.bounded(), b.bounded()
		late, reached, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		reach := sync.OnceFunc(func() { close(reached) })
		b.hook(slow, func(cmd redis.Cmder, next func() error) error {
			if cmd.Name() == "evalsha" {
				reach()
				<-late
			}
			return next()
		})
		at := time.Now()
		b.setNow(at)
		first := b.intuit.authorize(at)
		go func() { done <- slow.Connect(context.WithoutCancel(t.Context()), realm, "books", first) }()
		<-reached
		b.setNow(at.Add(time.Second))
		second := b.connect(other)
		close(late)
		require.NoError(t, <-done)
		require.Equal(t, second.Access, b.token(other))

		b.setNow(at.Add(2 * time.Second))
		third := b.connect(slow)
		require.Equal(t, third.Access, b.token(other))
	})
}
