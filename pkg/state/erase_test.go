package state_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// One of everything that can be stored of a realm is stored, and then erased: no key, member
// or field names the realm any more, and what other realms have stays.
func TestErase_NothingNamesTheRealm(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := state.Open(ctx, state.Options{Config: at(devtest.RealRedis(t)), Now: func() time.Time { return noon }})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	fill(t, s)
	const realm, other = "9341453", "93414530"
	for _, key := range []string{"lf:tmp:1:limit:{" + realm + "}", "lf:tmp:1:lease:{scan%3A" + realm + "}", "lf:tmp:1:consent:{x}"} {
		require.NoError(t, s.Redis().Set(ctx, key, `{"browser":"b","realm_id":"`+realm+`"}`, time.Hour).Err())
	}
	for _, r := range []string{realm, other} { // the id of one begins with that of the other
		require.NoError(t, s.Schedule(ctx, r, noon))
		require.NoError(t, s.AdvanceCursors(ctx, r, map[string]time.Time{"Invoice": noon}))
		require.NoError(t, s.NoteBehind(ctx, r, "pg", map[string]time.Time{"Invoice": noon}))
		require.NoError(t, s.Redis().SAdd(ctx, "lf:1:realms", r).Err())
		require.NoError(t, s.Redis().HSet(ctx, "lf:1:conn:{"+r+"}", "state", "erased").Err())
	}
	require.NoError(t, s.LogAction(ctx, state.Action{ID: "1", At: noon, What: "disconnect", On: "realm " + realm}))
	kept := naming(t, s, other)

	counted, err := s.EraseRealm(ctx, realm, true, "lf:1:conn:{"+realm+"}")
	require.NoError(t, err)
	require.Greater(t, len(naming(t, s, realm)), 30, "a dry run deletes nothing")
	erased, err := s.EraseRealm(ctx, realm, false, "lf:1:conn:{"+realm+"}")
	require.NoError(t, err)
	require.Equal(t, counted, erased)
	require.ElementsMatch(t, []string{"lf:1:conn:{" + realm + "}", "lf:1:actions"}, naming(t, s, realm))
	require.ElementsMatch(t, kept, naming(t, s, other))
	again, err := s.EraseRealm(ctx, realm, false, "lf:1:conn:{"+realm+"}")
	require.NoError(t, err)
	require.Empty(t, again)
}

// naming are the keys that name a realm, or hold something that does.
func naming(t *testing.T, s *state.Store, realm string) (found []string) {
	t.Helper()
	ctx := t.Context()
	names := func(text string) bool {
		for rest := text; ; {
			_, after, ok := strings.Cut(rest, realm)
			if !ok {
				return false
			}
			if after == "" || after[0] < '0' || after[0] > '9' {
				return true
			}
			rest = after
		}
	}
	for _, key := range keys(t, s) {
		text := []string{key}
		switch s.Redis().Type(ctx, key).Val() {
		case "hash":
			for f, v := range s.Redis().HGetAll(ctx, key).Val() {
				text = append(text, f, v)
			}
		case "zset":
			text = append(text, s.Redis().ZRange(ctx, key, 0, -1).Val()...)
		case "set":
			text = append(text, s.Redis().SMembers(ctx, key).Val()...)
		case "string":
			text = append(text, s.Redis().Get(ctx, key).Val())
		}
		for _, one := range text {
			if names(one) {
				found = append(found, key)
				break
			}
		}
	}
	return found
}
