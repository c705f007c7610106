package envelope_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
)

func TestRealmToken_KeepsIntuitsIDs(t *testing.T) {
	for _, realm := range []string{"310687", "9130347957983376", "1"} {
		require.Equal(t, realm, envelope.RealmToken(realm))
	}
}

func TestRealmToken_EscapesTheRest(t *testing.T) {
	tests := []struct{ name, realm, want string }{
		{"empty", "", "_"},
		{"wildcards", "*.>", "_2a2e3e"},
		{"space", "a b", "_612062"},
		{"the escape itself", "_61", "_5f3631"},
		{"long", strings.Repeat("9", 65), "_sha256-1354738a2383466765f9bc6fb182729d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, envelope.RealmToken(tt.realm))
		})
	}
}

func TestRealmToken_IsOneTokenAndOneRealms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		require.Regexp(t, `^[0-9A-Za-z_-]{1,140}$`, envelope.RealmToken(a))
		if a != b {
			require.NotEqual(t, envelope.RealmToken(a), envelope.RealmToken(b))
		}
		p := envelope.Partition(a)
		require.True(t, 0 <= p && p < envelope.Partitions)
	})
}

// The partition is in the subject of every stored message.
func TestPartition_NeverChanges(t *testing.T) {
	require.Equal(t, 33, envelope.Partition("310687"))
	require.Equal(t, 63, envelope.Partition("9130347957983376"))
}
