package connection_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestRotate_FirstKeySealsEverything(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		old := b.replica(key("old"))
		first := b.connect(old)
		b.reject(old, first.Access)
		second := b.token(old) // so that there is one before it
		s := b.replica(key("new"), key("old"))
		use, err := s.KeyUse(t.Context())
		require.NoError(t, err)
		require.Equal(t, connection.KeyUse{"old": 1}, use)

		got, err := s.Rotate(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.RotatedNow, got)
		require.NotContains(t, b.dump(), "1.old.", "neither the token nor the one before it")
		got, err = s.Rotate(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.RotatedAlready, got)
		use, err = s.KeyUse(t.Context())
		require.NoError(t, err)
		require.Equal(t, connection.KeyUse{"new": 1}, use)

		only := b.replica(key("new"))
		require.Equal(t, second, b.token(only), "the token is the same")
		// The one before it still helps.
		b.intuit.set(func() { b.intuit.valid = first.Refresh.Reveal() })
		b.reject(only, second)
		b.token(only)
		require.Equal(t, "new", s.FirstKey())
		require.Equal(t, []string{"new", "old"}, s.Keys())
	})
}

func TestRotate_ARefreshAtTheSameTimeWins(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		old, s := b.replica(key("old")), b.replica(key("new"), key("old"))
		first := b.connect(old)
		b.reject(old, first.Access)
		var once atomic.Bool
		var second secret.String
		b.hook(s, func(cmd redis.Cmder, next func() error) error {
			if cmd.Name() == "evalsha" && once.CompareAndSwap(false, true) {
				second = b.token(old)
			}
			return next()
		})
		got, err := s.Rotate(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.RotatedMeanwhile, got)
		require.Equal(t, second, b.token(s))
		got, err = s.Rotate(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.RotatedNow, got)
		require.Equal(t, second, b.token(s))
	})
}

func TestRotate_WithoutTheOldKeySaysWhichIsMissing(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.connect(b.replica(key("old")))
		s := b.replica(key("new"))
		_, err := s.Rotate(t.Context(), realm)
		require.ErrorContains(t, err, `needs the key "old"`)
		b.see(err)
		_, err = s.Rotate(t.Context(), "1")
		require.ErrorIs(t, err, connection.ErrNotConnected)
	})
}

func TestRefresh_ForcedMakesOneAlways(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		first := b.connect(s)
		require.NoError(t, s.Refresh(t.Context(), realm))
		second := b.token(s)
		require.NotEqual(t, first.Access, second)
		refreshes, refused, _ := b.intuit.counts()
		require.Equal(t, 1, refreshes)
		require.Zero(t, refused)

		// Unlike Token it does not make do with the old one.
		b.intuit.set(func() { b.intuit.fail = 503 })
		require.Error(t, s.Refresh(t.Context(), realm))
		require.Equal(t, second, b.token(s), "which still works")
		b.intuit.set(func() { b.intuit.fail = 0 })

		require.NoError(t, s.SetState(t.Context(), realm, connection.Parked, "unpaid"))
		require.ErrorIs(t, b.tokenErr(s), connection.ErrParked)
		require.ErrorContains(t, b.tokenErr(s), "unpaid")
		require.NoError(t, s.Refresh(t.Context(), realm), "so that it does not lapse")
		require.Equal(t, connection.Parked, b.get(s).State)
		require.NoError(t, s.SetState(t.Context(), realm, connection.Live, ""))
		require.NotEqual(t, second, b.token(s))

		b.intuit.set(func() { b.intuit.valid = "revoked" })
		require.ErrorIs(t, s.Refresh(t.Context(), realm), connection.ErrReauthRequired)
		require.NoError(t, s.Disconnect(t.Context(), realm))
		require.ErrorIs(t, s.Refresh(t.Context(), realm), connection.ErrNotConnected)
		require.ErrorIs(t, s.Refresh(t.Context(), "1"), connection.ErrNotConnected)
	})
}

// revoker notes what it is given.
type revoker struct {
	tokens []secret.String
	err    error
	during func()
}

func (r *revoker) Revoke(_ context.Context, token secret.String) error {
	if r.during != nil {
		r.during()
	}
	r.tokens = append(r.tokens, token)
	return r.err
}

func TestRevoke_AtIntuitFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		token := b.connect(s)
		ctx := t.Context()
		down := &revoker{err: errors.New("no answer")}
		_, err := s.Revoke(ctx, realm, connection.Disconnected, "bye", down)
		require.ErrorContains(t, err, "no answer")
		require.Equal(t, token.Access, b.token(s), "nothing is forgotten")

		by := &revoker{during: func() {
			// Nobody refreshes what is being revoked.
			b.reject(other, token.Access)
			_, err := other.Token(withTimeout(t, 300*time.Millisecond), realm)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}}
		confirmed, err := s.Revoke(ctx, realm, connection.ReauthRequired, "leaked", by)
		require.NoError(t, err)
		require.True(t, confirmed)
		require.Equal(t, []secret.String{token.Refresh}, by.tokens)
		require.ErrorContains(t, b.tokenErr(s), "leaked")
		refreshes, _, _ := b.intuit.counts()
		require.Zero(t, refreshes)

		for range 2 {
			again := &revoker{}
			confirmed, err = s.Revoke(ctx, realm, connection.Disconnected, "bye", again)
			require.NoError(t, err)
			require.True(t, confirmed, "it was revoked before")
			require.Empty(t, again.tokens)
			require.Empty(t, b.get(s).Token)
		}
		_, err = s.Revoke(ctx, "1", connection.Disconnected, "bye", by)
		require.ErrorIs(t, err, connection.ErrNotConnected)
	})
}

func TestImport_ChangesNothingUnlessTheTokenHolds(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		token := b.connect(s)
		err := s.Import(t.Context(), realm, "other", "rt-secret-guess")
		require.ErrorIs(t, err, qbo.ErrInvalidGrant)
		b.see(err)
		require.Equal(t, token.Access, b.token(s))
		require.Equal(t, "books", b.get(s).App)

		elsewhere := b.intuit.authorize(b.now())
		require.NoError(t, s.Import(t.Context(), realm, "other", elsewhere.Refresh))
		c := b.get(s)
		require.Equal(t, "other", c.App)
		require.NotEqual(t, elsewhere.Refresh, c.Token.Refresh)
		b.reject(s, c.Token.Access)
		b.token(s)
		_, refused, atOnce := b.intuit.counts()
		require.Equal(t, 1, refused)
		require.Equal(t, 1, atOnce)
	})
}

// A token that was refreshed and cannot be stored is handed to the caller.
func TestImport_HandsOutWhatItCannotStore(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	s := b.replica()
	s.SetSaveFor(300 * time.Millisecond)
	given := b.intuit.authorize(b.now())
	b.intuit.set(func() { b.intuit.after = func(string) { server.Kill() } })
	err := s.Import(t.Context(), realm, "books", given.Refresh)
	b.see(err)
	var unstored *connection.UnstoredError
	require.ErrorAs(t, err, &unstored)
	require.Equal(t, realm, unstored.RealmID)
	b.intuit.set(func() { require.Equal(t, b.intuit.valid, unstored.Token.Refresh.Reveal()) })

	// Without Redis Intuit is not even asked.
	require.ErrorIs(t, s.Import(t.Context(), realm, "books", unstored.Token.Refresh), connection.ErrStore)
	refreshes, _, _ := b.intuit.counts()
	require.Equal(t, 1, refreshes)
	server.Start()
	b.dropLease() // it could not be released
	b.intuit.set(func() { b.intuit.after = nil })
	require.NoError(t, s.Import(t.Context(), realm, "books", unstored.Token.Refresh))
	b.token(s)
}

func TestConsent_IsGoodOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		state, err := s.BeginConsent(t.Context(), connection.Consent{Browser: "digest", RealmID: "7"})
		require.NoError(t, err)
		second, err := s.BeginConsent(t.Context(), connection.Consent{})
		require.NoError(t, err)
		require.NotEqual(t, state, second)
		c, err := other.EndConsent(t.Context(), state)
		require.NoError(t, err)
		require.Equal(t, connection.Consent{Browser: "digest", RealmID: "7"}, c)
		for _, used := range []string{state, "", "guess", "{x}"} {
			_, err = s.EndConsent(t.Context(), used)
			require.ErrorIs(t, err, connection.ErrNoConsent)
		}
	})
}

// A ring that is replaced seals with its first key from then on.
func TestStore_TakesOtherKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica(key("old"))
		first := b.connect(s)
		require.Error(t, s.SetKeys(connection.Config{}))
		require.Equal(t, "old", s.FirstKey())
		require.NoError(t, s.SetKeys(connection.Config{Keys: []secret.String{key("new"), key("old")}}))
		b.reject(s, first.Access)
		second := b.token(s)
		require.Contains(t, b.dump(), "1.new.")
		require.Equal(t, second, b.token(b.replica(key("new"))))
	})
}
