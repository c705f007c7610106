package connection_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestConnect_KeepsWhatItWasGiven(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		token := b.connect(s)
		want := connection.Connection{
			RealmID: realm, App: "books", State: connection.Live, ConnectedAt: noon, ChangedAt: noon, Generation: 1, Token: token, ClientID: "app",
		}
		c := b.get(b.replica())
		require.Empty(t, cmp.Diff(want, c))
		b.see(c)

		b.setNow(noon.Add(time.Hour))
		second := b.intuit.authorize(noon)
		require.NoError(t, s.Connect(t.Context(), realm, "other", second))
		want.App, want.Generation, want.Token = "other", 2, second
		require.Empty(t, cmp.Diff(want, b.get(s)), "it was live all the time")

		require.NoError(t, s.Disconnect(t.Context(), realm))
		b.setNow(noon.Add(2 * time.Hour))
		b.connect(s)
		require.Equal(t, noon.Add(2*time.Hour), b.get(s).ConnectedAt)
	})
}

// The deadlines of a refresh token, 100 days and five years, outlive refreshes
// that say nothing of them.
func TestGet_ShowsTheDeadlines(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		token := b.connect(s)
		b.setNow(noon.Add(24 * time.Hour))
		b.token(s)
		got := b.get(s).Token
		require.Equal(t, noon.Add(25*time.Hour), got.AccessExpires)
		require.Equal(t, noon.Add(24*time.Hour+8640000*time.Second), got.RefreshExpires)
		require.Equal(t, token.RefreshHardExpires, got.RefreshHardExpires)
	})
}

func TestConnect_NeedsARealmAndAToken(t *testing.T) {
	t.Parallel()
	b := setup(t, embedded(t))
	s := b.replica()
	require.Error(t, s.Connect(t.Context(), "", "books", qbo.Token{Refresh: "rt"}))
	require.Error(t, s.Connect(t.Context(), realm, "books", qbo.Token{Access: "at"}))
	realms, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, realms)
}

func TestList_NamesEveryRealm(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		for _, r := range []string{"3", "1", "2"} {
			require.NoError(t, s.Connect(t.Context(), r, "books", b.intuit.authorize(b.now())))
		}
		require.NoError(t, s.Disconnect(t.Context(), "1"))
		realms, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3"}, realms)
	})
}

func TestSetState_ChangesOnlyWhatIsThere(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s := b.replica()
		set := func(to connection.State, reason string) error { return s.SetState(t.Context(), realm, to, reason) }
		require.ErrorIs(t, set(connection.ReauthRequired, "test"), connection.ErrNotConnected)
		b.connect(s)
		require.ErrorContains(t, set("odd", ""), `"odd"`)

		b.setNow(noon.Add(time.Hour))
		require.NoError(t, set(connection.ReauthRequired, "subscription lapsed"))
		b.setNow(noon.Add(2 * time.Hour))
		require.NoError(t, set(connection.ReauthRequired, "subscription lapsed, still"))
		c := b.get(s)
		require.Equal(t, "subscription lapsed, still", c.Reason)
		require.Equal(t, noon.Add(time.Hour), c.ChangedAt)
		require.ErrorContains(t, b.tokenErr(s), "subscription lapsed, still")

		require.NoError(t, set(connection.Live, ""))
		b.token(s)
		c = b.get(s)
		require.Empty(t, c.Reason)
		require.Equal(t, noon.Add(2*time.Hour), c.ChangedAt)
		require.Equal(t, noon.Add(time.Hour), c.LapsedAt)

		require.NoError(t, s.Disconnect(t.Context(), realm))
		require.ErrorIs(t, set(connection.Live, ""), connection.ErrReauthRequired)
	})
}

func TestKnown_IsFreshAndCheap(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s, other := b.replica(), b.replica()
		known := func(s *connection.Store) connection.State {
			k, err := s.Known(t.Context(), realm)
			if err != nil {
				require.ErrorIs(t, err, connection.ErrNotConnected)
			}
			return k
		}
		require.Empty(t, known(s))
		require.Empty(t, known(other))
		b.connect(s)
		require.Equal(t, connection.Live, known(s), "its own writes at once")
		require.Eventually(t, func() bool { return known(other) == connection.Live }, 3*time.Second, 20*time.Millisecond)
		require.NoError(t, s.Disconnect(t.Context(), realm))
		require.Equal(t, connection.Disconnected, known(s))
		require.Eventually(t, func() bool { return known(other) == connection.Disconnected }, 3*time.Second, 20*time.Millisecond)
	})
}

// Redis being away must not look like a realm that nobody connected.
func TestStore_WithoutRedisNothingIsKnown(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	b := setup(t, server.URL())
	s := b.replica()
	token := b.connect(s)
	s.SetSaveFor(time.Second)
	server.Kill()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Known":    func() error { _, err := s.Known(t.Context(), "another"); return err },
		"Token":    func() error { _, err := s.Token(t.Context(), realm); return err },
		"Rejected": func() error { return s.Rejected(t.Context(), realm, token.Access) },
		"Get":      func() error { _, err := s.Get(t.Context(), realm); return err },
		"List":     func() error { _, err := s.List(t.Context()); return err },
		"Connect":  func() error { return s.Connect(t.Context(), realm, "books", token) },
		"SetState": func() error { return s.SetState(t.Context(), realm, connection.Live, "") },
	} {
		wg.Go(func() {
			err := call()
			b.see(err)
			if err == nil || errors.Is(err, connection.ErrNotConnected) || errors.Is(err, connection.ErrReauthRequired) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

// copyToken gives one realm the sealed token of another.
func (b *bundle) copyToken(from, to string) {
	b.t.Helper()
	db := b.redis()
	sealed, err := db.HGet(b.t.Context(), "lf:1:conn:{"+from+"}", "token").Result()
	require.NoError(b.t, err)
	require.NoError(b.t, db.HSet(b.t.Context(), "lf:1:conn:{"+to+"}", "token", sealed).Err())
}

func (b *bundle) setToken(realm, sealed string) {
	b.t.Helper()
	require.NoError(b.t, b.redis().HSet(b.t.Context(), "lf:1:conn:{"+realm+"}", "token", sealed).Err())
}

func TestKeys_RotateByPuttingANewOneInFront(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		old := b.replica(key("old"))
		first := b.connect(old)
		require.Contains(t, b.dump(), "1.old.")

		both := b.replica(key("new"), key("old"))
		require.Equal(t, first.Access, b.token(both))
		b.reject(both, first.Access)
		second := b.token(both)
		require.Contains(t, b.dump(), "1.new.")

		_, err := old.Get(t.Context(), realm)
		require.ErrorContains(t, err, `needs the key "new"; connection.keys has old`)
		b.see(err)

		only := b.replica(key("new"))
		require.Equal(t, second, b.token(only))
		b.reject(only, second)
		b.token(only)
		require.NotContains(t, b.dump(), "1.old.", "the previous one is sealed anew, too")
	})
}

func TestKeys_UnknownOneIsNamed(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.connect(b.replica(key("old")))
		s := b.replica(key("a"), key("b"))
		c, err := s.Get(t.Context(), realm)
		require.ErrorContains(t, err, `realm 9341453: the stored token needs the key "old"; connection.keys has a, b`)
		require.Equal(t, "books", c.App, "the rest is readable")
		require.Empty(t, c.Token)
		require.ErrorContains(t, b.tokenErr(s), `"old"`)
		known, err := s.Known(t.Context(), realm)
		require.NoError(t, err)
		require.Equal(t, connection.Live, known)
	})
}

func TestKeys_WrongOrMisplacedRecordsDoNotOpen(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.connect(b.replica(key("k1")))
		fake := secret.String("k1:" + strings.TrimPrefix(key("k2").Reveal(), "k2:"))
		require.ErrorContains(t, b.tokenErr(b.replica(fake)), `cannot be decrypted with key "k1"`)

		s := b.replica()
		require.NoError(t, s.Connect(t.Context(), "other", "books", b.intuit.authorize(b.now())))
		b.copyToken(realm, "other")
		_, err := s.Token(t.Context(), "other")
		require.ErrorContains(t, err, "cannot be decrypted")
		b.see(err)
		for _, odd := range []string{"", "x", "2.k1.AAAA", "1.k1.!", "1.k1.AAAA", "1.k1.AAAA.B"} {
			b.setToken(realm, odd)
			b.tokenErr(s)
		}
	})
}

func TestRedis_HoldsNoSecret(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		first := b.connect(s)
		b.reject(s, first.Access)
		b.token(s)
		dump := b.dump()
		require.Contains(t, dump, "previous:1.k1.")
		require.NotContains(t, dump, "secret")
	})
}

func TestConfig_ErrorsNameTheKeyAndNotItsText(t *testing.T) {
	t.Parallel()
	long := secret.String("k2:" + strings.Repeat("hush", 20))
	for _, tc := range []struct {
		name string
		keys []secret.String
		want string
	}{
		{"none", nil, "connection.keys is empty"},
		{"no id", []secret.String{key("k1"), "hushhushhush"}, "key 2 of 2 is not ID:BASE64"},
		{"empty id", []secret.String{":hush"}, "key 1 of 1 is not ID:BASE64"},
		{"odd id", []secret.String{"a.b:hush"}, "key 1 of 1 is not ID:BASE64"},
		{"no base64", []secret.String{"k2:hush!"}, `key "k2" is not the base64 of 32 bytes`},
		{"wrong length", []secret.String{key("k1"), long}, `key "k2" is not the base64 of 32 bytes`},
		{"id twice", []secret.String{key("k1"), key("k1")}, `two keys have the id "k1"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := connection.Config{Keys: tc.keys}.Validate()
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hush")
		})
	}
	require.NoError(t, connection.Config{Keys: []secret.String{key("k1"), key("k2")}}.Validate())
}
