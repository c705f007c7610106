package state_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// The password of the user is another one, and the connections that there were are cut.
func TestStore_LogsInWithAnotherPassword(t *testing.T) {
	t.Parallel()
	server := devtest.StartRealRedis(t)
	admin := dialRedis(t, server.URL(), "")
	url := func(user, password string) state.Config {
		return state.Config{URL: secret.String("redis://" + user + ":" + password + "@" + server.URL()[len("redis://"):])}
	}
	set := func(user, password string) {
		require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", user, "on", "resetpass", ">"+password, "~*", "&*", "+@all").Err())
		_ = admin.Do(t.Context(), "CLIENT", "KILL", "USER", user).Err()
	}
	set("feed", "one")
	s, err := state.Open(t.Context(), state.Options{Config: url("feed", "one")})
	require.NoError(t, err)
	defer s.Close()

	set("feed", "two")
	require.Eventually(t, func() bool { return s.Ping(t.Context()) != nil }, 20*time.Second, time.Millisecond)
	require.True(t, s.SetLogin(url("feed", "two")))
	require.NoError(t, s.Ping(t.Context()))

	set("feed2", "three")
	require.True(t, s.SetLogin(url("feed2", "three")))
	_ = admin.Do(t.Context(), "CLIENT", "KILL", "USER", "feed").Err()
	require.Eventually(t, func() bool {
		name, err := s.Redis().Do(t.Context(), "ACL", "WHOAMI").Text()
		return err == nil && name == "feed2"
	}, 20*time.Second, time.Millisecond)

	other := url("feed", "two")
	other.URL += "1" // database 01
	require.False(t, s.SetLogin(other), "another place")
}
