package console

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestKeys_NeedASecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", strings.Repeat("a", minSecret-1)} {
		_, err := deriveKeys([]byte(text))
		require.ErrorIs(t, err, errNoSecret, text)
	}
	_, err := sessionKeys(ConsoleConfig{SessionKey: "too short"})
	require.ErrorIs(t, err, errNoSecret)
}

func all(k keys) [][]byte { return [][]byte{k.cookie, k.session, k.record, k.token, k.flow} }

// Each purpose has a key of its own, and each process unless a key is set.
func TestKeys_AreOfOnePurpose(t *testing.T) {
	t.Parallel()
	set := ConsoleConfig{Token: "operator-token-1234", ViewerToken: "viewer-token-123456", OIDCSecret: "hush"}
	seen := map[string]bool{}
	for range 3 {
		drawn, err := sessionKeys(set) // of tokens alone: drawn
		require.NoError(t, err)
		for _, key := range all(drawn) {
			require.Len(t, key, 32)
			require.False(t, seen[string(key)])
			seen[string(key)] = true
		}
	}
	set.SessionKey = secret.String(strings.Repeat("0123456789abcdef", 2))
	first, err := sessionKeys(set)
	require.NoError(t, err)
	set.Token, set.ViewerToken, set.OIDCSecret = "", "", ""
	second, err := sessionKeys(set)
	require.NoError(t, err)
	require.Equal(t, first, second, "a key that is set is all there is to it")
}

func TestMAC_TellsPartsApart(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{1}, 32)
	require.NotEqual(t, mac(key, "ab", "c"), mac(key, "a", "bc"))
	require.NotEqual(t, mac(key, "a"), mac(key, "a", ""))
}

func TestConnections_AreBoundedForEachPeer(t *testing.T) {
	t.Parallel()
	c := newConnections(nil, nil, func() {})
	for range maxPeerConnections {
		require.True(t, c.enter("203.0.113.7", true))
	}
	require.False(t, c.enter("203.0.113.7", true))
	require.True(t, c.enter("198.51.100.4", true), "another peer")
	c.leave("203.0.113.7")
	require.True(t, c.enter("203.0.113.7", true), "a place was given back")
	for c.enter("", false) { // a trusted proxy
	}
	require.Equal(t, maxConnections, c.open)
	require.False(t, c.enter("198.51.100.4", true))
}

func TestFailures_RememberABoundedNumberOfPeers(t *testing.T) {
	t.Parallel()
	f := newFailures()
	for i := range 3 * maxPeers {
		require.True(t, f.allow(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	require.LessOrEqual(t, len(f.peers), maxPeers)
	for range failBurst {
		f.allow("2001:db8::1")
	}
	require.False(t, f.allow("2001:db8::2"), "one host has all of a /64")
	require.True(t, f.allow("2001:db8:0:1::1"))
}

func TestGroups_AreReadFromAnyClaim(t *testing.T) {
	t.Parallel()
	claims := map[string]any{
		"groups": []any{"ops", 7, "staff"}, "role": "ops", "https://books.example/groups": []any{"url"},
		"realm_access": map[string]any{"roles": []any{"deep"}, "a": map[string]any{"b": "deeper"}},
	}
	for name, want := range map[string][]string{
		"groups": {"ops", "staff"}, "role": {"ops"}, "https://books.example/groups": {"url"}, "realm_access.roles": {"deep"}, "realm_access.a.b": {"deeper"},
		"none": nil, "": nil, "realm_access": nil, "role.ops": nil, "realm_access.none": nil, "groups.0": nil,
	} {
		require.Equal(t, want, groupsOf(claims, name), name)
	}
}

// An address counts if the issuer says that it is verified, in any spelling, or says
// nothing and is trusted.
func TestEmail_OnlyAVerifiedOneCounts(t *testing.T) {
	t.Parallel()
	const address = "Anna@Books.example"
	for _, tc := range []struct {
		claims map[string]any
		trust  bool
		want   bool
	}{
		{map[string]any{"email": address, "email_verified": true}, false, true},
		{map[string]any{"email": address, "email_verified": "true"}, false, true},
		{map[string]any{"email": address, "email_verified": false}, false, false},
		{map[string]any{"email": address, "email_verified": "false"}, true, false},
		{map[string]any{"email": address, "email_verified": false}, true, false},
		{map[string]any{"email": address, "email_verified": nil}, true, false},
		{map[string]any{"email": address, "email_verified": 1}, true, false},
		{map[string]any{"email": address}, false, false},
		{map[string]any{"email": address}, true, true},
		{map[string]any{}, true, false},
	} {
		got := ConsoleConfig{TrustEmail: tc.trust}.emailOf(tc.claims)
		require.Equal(t, tc.want, got == "anna@books.example", "%v %v", tc.claims, tc.trust)
		require.Equal(t, !tc.want, got == "")
	}
	require.Equal(t, nobody, ConsoleConfig{Viewers: []string{"@books.example", " "}}.byEmail(""))
}
