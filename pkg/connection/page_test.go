package connection_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// walk reads page by page and returns the ids.
func walk(t *testing.T, s *connection.Store, q connection.Query) (ids []string, pages int) {
	t.Helper()
	for {
		page, err := s.Page(t.Context(), q)
		require.NoError(t, err)
		pages++
		for _, l := range page.Realms {
			ids = append(ids, l.RealmID)
		}
		if page.Next == "" {
			return ids, pages
		}
		q.After = page.Next
	}
}

func (b *bundle) connectAs(s *connection.Store, id, app string) {
	b.t.Helper()
	require.NoError(b.t, s.Connect(b.t.Context(), id, app, b.intuit.authorize(b.now())))
}

func TestPage_WalksEveryRealmOnceInOrder(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		none, _ := walk(t, s, connection.Query{})
		require.Empty(t, none)
		var want []string
		for n := range 25 {
			want = append(want, fmt.Sprintf("93%03d", n))
			b.connectAs(s, want[n], "books")
		}
		for _, limit := range []int{1, 5, 7, 25, 1000} {
			got, pages := walk(t, s, connection.Query{Limit: limit})
			require.Equal(t, want, got)
			require.Equal(t, (24+limit)/limit, pages)
		}
		got, _ := walk(t, s, connection.Query{After: "93020", Limit: 2})
		require.Equal(t, want[21:], got)
		got, _ = walk(t, s, connection.Query{Prefix: "9301", Limit: 3})
		require.Equal(t, want[10:20], got)
		got, _ = walk(t, s, connection.Query{Prefix: "94"})
		require.Empty(t, got)
	})
}

func TestPage_ByStateAndApp(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		for _, id := range []string{"1", "2", "3", "4", "5"} {
			app := "books"
			if id == "4" {
				app = "other"
			}
			b.connectAs(s, id, app)
		}
		ctx := t.Context()
		require.NoError(t, s.SetState(ctx, "2", connection.ReauthRequired, "test"))
		require.NoError(t, s.SetState(ctx, "3", connection.Parked, "test"))
		require.NoError(t, s.Disconnect(ctx, "5"))
		for _, tt := range []struct {
			q    connection.Query
			want []string
		}{
			{connection.Query{}, []string{"1", "2", "3", "4", "5"}},
			{connection.Query{States: []connection.State{connection.Live}}, []string{"1", "4"}},
			{connection.Query{States: []connection.State{connection.ReauthRequired, connection.Parked}}, []string{"2", "3"}},
			{connection.Query{States: []connection.State{connection.Disconnected}}, []string{"5"}},
			{connection.Query{App: "other"}, []string{"4"}},
			{connection.Query{App: "other", Limit: 1}, []string{"4"}},
		} {
			got, _ := walk(t, s, tt.q)
			require.Equal(t, tt.want, got, "%+v", tt.q)
		}
		counts, err := s.Counts(ctx)
		require.NoError(t, err)
		require.Equal(t, map[connection.State]int{
			connection.Live: 2, connection.ReauthRequired: 1, connection.Parked: 1, connection.Disconnected: 1,
			connection.NoAccess: 0, connection.SubscriptionEnded: 0, connection.WrongEnvironment: 0, connection.Pending: 0,
		}, counts)
		page, err := s.Page(ctx, connection.Query{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, "k1", page.Realms[0].Key)
		require.Equal(t, "books", page.Realms[0].App)
		require.NoError(t, page.Realms[0].Err)
		b.see(page)
	})
}

// What an earlier version connected, and what a crash left out of the index, is
// found all the same; what the index is wrong about is put right when it is read.
func TestPage_RepairsTheIndex(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		ctx := t.Context()
		s, db := b.replica(), b.redis()
		for _, id := range []string{"1", "2", "3"} {
			b.connectAs(s, id, "books")
		}
		keys, err := db.Keys(ctx, "lf:1:index:*").Result()
		require.NoError(t, err)
		require.NotEmpty(t, keys)
		require.NoError(t, db.Del(ctx, keys...).Err())
		require.NoError(t, db.SAdd(ctx, "lf:1:realms", "half").Err(), "its connecting failed half way")
		got, _ := walk(t, s, connection.Query{})
		require.Equal(t, []string{"1", "2", "3"}, got)
		_, total, err := s.Deadlines(ctx, connection.RefreshDeadline, b.now().AddDate(1, 0, 0), 0)
		require.NoError(t, err)
		require.Equal(t, 3, total)

		require.NoError(t, db.HSet(ctx, "lf:1:conn:{2}", "state", "parked").Err(), "a process died before it changed the index")
		live := connection.Query{States: []connection.State{connection.Live}}
		got, _ = walk(t, s, live)
		require.Equal(t, []string{"1", "3"}, got)
		got, _ = walk(t, s, connection.Query{States: []connection.State{connection.Parked}})
		require.Equal(t, []string{"2"}, got)
	})
}

func TestListed_WhatDoesNotOpenIsShownAllTheSame(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.connect(b.replica(key("old")))
		s := b.replica(key("new"))
		page, err := s.Page(t.Context(), connection.Query{})
		require.NoError(t, err)
		require.Len(t, page.Realms, 1)
		require.Equal(t, "old", page.Realms[0].Key)
		require.Equal(t, connection.Live, page.Realms[0].State)
		require.ErrorContains(t, page.Realms[0].Err, `needs the key "old"`)
		l, err := s.Listed(t.Context(), realm)
		require.NoError(t, err)
		require.Error(t, l.Err)
		_, err = s.Listed(t.Context(), "1")
		require.ErrorIs(t, err, connection.ErrNotConnected)
	})
}

func TestDeadlines_TheNearestFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s, ctx := b.replica(), t.Context()
		for i, id := range []string{"1", "2", "3", "4"} {
			token := b.intuit.authorize(noon)
			token.RefreshExpires = noon.AddDate(0, 0, 10*(i+1))
			if id == "2" {
				token.RefreshHardExpires = time.Time{} // Intuit did not say
			}
			require.NoError(t, s.Connect(ctx, id, "books", token))
		}
		require.NoError(t, s.SetState(ctx, "1", connection.ReauthRequired, "test"))
		require.NoError(t, s.SetState(ctx, "3", connection.Parked, "test"))
		near, total, err := s.Deadlines(ctx, connection.RefreshDeadline, noon.AddDate(0, 0, 35), 1)
		require.NoError(t, err)
		require.Equal(t, 2, total, "one that waits for a person has none")
		require.Equal(t, []connection.Deadline{{RealmID: "2", Kind: connection.RefreshDeadline, At: noon.AddDate(0, 0, 20)}}, near)
		hard, total, err := s.Deadlines(ctx, connection.HardDeadline, noon.AddDate(6, 0, 0), 10)
		require.NoError(t, err)
		require.Equal(t, 2, total)
		require.Equal(t, "3", hard[0].RealmID)

		// A refresh moves it.
		require.NoError(t, s.SetState(ctx, "3", connection.Disconnected, "test"))
		require.NoError(t, s.SetState(ctx, "4", connection.Live, ""))
		b.setNow(noon.AddDate(0, 0, 1))
		b.intuit.set(func() { b.intuit.sticky = true })
		require.NoError(t, s.Refresh(ctx, "4"))
		_, total, err = s.Deadlines(ctx, connection.RefreshDeadline, noon.AddDate(0, 0, 99), 0)
		require.NoError(t, err)
		require.Equal(t, 1, total)
	})
}

// The log warns ahead, once over all replicas.
func TestWatch_WarnsOnceADay(t *testing.T) {
	everywhere(t, func(t *testing.T, b *bundle) {
		b.setNow(noon)
		s, other := b.replica(), b.replica()
		soon := b.intuit.authorize(noon)
		soon.RefreshExpires, soon.RefreshHardExpires = noon.AddDate(0, 0, 29), noon.AddDate(0, 0, 89)
		require.NoError(t, s.Connect(t.Context(), "1", "books", soon))
		late := b.intuit.authorize(noon)
		late.RefreshExpires, late.RefreshHardExpires = noon.AddDate(0, 0, 31), noon.AddDate(0, 0, 91)
		require.NoError(t, s.Connect(t.Context(), "2", "books", late))

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for _, replica := range []*connection.Store{s, other} {
			go func() { done <- replica.Watch(ctx) }()
		}
		warned := func() int { return b.logs.FilterMessage("realm authorisation ends soon").Len() }
		require.Eventually(t, func() bool { return warned() >= 2 }, 30*time.Second, 10*time.Millisecond)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.Equal(t, 2, warned())
		for _, line := range b.logs.FilterMessage("realm authorisation ends soon").All() {
			require.Equal(t, "1", line.ContextMap()["realm_id"])
		}
	})
}

// A list of a hundred thousand costs what one of a hundred does.
func BenchmarkPage(b *testing.B) {
	bundle := setup(b, devtest.RealRedis(b))
	s := bundle.replica()
	fill(b, bundle, s, 100_000)
	for name, q := range map[string]connection.Query{
		"first": {}, "middle": {After: "950000"}, "parked": {States: []connection.State{connection.Parked}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if page, err := s.Page(b.Context(), q); err != nil || len(page.Realms) != 100 {
					b.Fatal(len(page.Realms), err)
				}
			}
		})
	}
	b.Run("reindex", func(b *testing.B) {
		for b.Loop() {
			if err := s.Reindex(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			if use, err := s.KeyUse(b.Context()); err != nil || use["k1"] != 100_000 {
				b.Fatal(use, err)
			}
		}
	})
}

// fill connects n realms by copying one; each hundredth is parked. Their tokens do not
// open, being bound to the first.
func fill(b *testing.B, bundle *bundle, s *connection.Store, n int) {
	b.Helper()
	bundle.connect(s)
	db := bundle.redis()
	fields, err := db.HGetAll(b.Context(), "lf:1:conn:{"+realm+"}").Result()
	if err != nil {
		b.Fatal(err)
	}
	pipe := db.Pipeline()
	flush := func() {
		if _, err := pipe.Exec(b.Context()); err != nil && !errors.Is(err, redis.Nil) {
			b.Fatal(err)
		}
	}
	for i := range n - 1 {
		id := fmt.Sprint(900_000 + i)
		fields["state"] = "live"
		if i%100 == 0 {
			fields["state"] = "parked"
		}
		pipe.SAdd(b.Context(), "lf:1:realms", id)
		pipe.HSet(b.Context(), "lf:1:conn:{"+id+"}", fields)
		if i%1000 == 999 {
			flush()
		}
	}
	flush()
	if err := s.Reindex(b.Context()); err != nil {
		b.Fatal(err)
	}
}

var _ connection.Revoker = (*qbo.OAuth)(nil)
