package qbo_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

func TestVersion_Layout(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 11, 12, 999_999_999, time.FixedZone("", -8*3600))
	second := at.Unix() * 1_000_000
	for _, tt := range []struct {
		name      string
		at        time.Time
		syncToken string
		deleted   bool
		want      int64
	}{
		{name: "first write", at: at, syncToken: "0", want: second},
		{name: "fraction is dropped", at: at.Truncate(time.Second), syncToken: "7", want: second + 7},
		{name: "largest token", at: at, syncToken: "999998", want: second + 999_998},
		{name: "token above", at: at, syncToken: "999999", want: second + 999_998},
		{name: "token beyond 64 bits", at: at, syncToken: "99999999999999999999999", want: second + 999_998},
		{name: "no token", at: at, want: second},
		{name: "token is no number", at: at, syncToken: "abc", want: second},
		{name: "negative token", at: at, syncToken: "-1", want: second},
		{name: "deleted", at: at, deleted: true, want: second + 999_999},
		{name: "deleted with a token", at: at, syncToken: "3", deleted: true, want: second + 999_999},
		{name: "no time", syncToken: "3", want: 3},
		{name: "beyond the range", at: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC), deleted: true, want: 9_007_199_253_999_999},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, qbo.Version(tt.at, tt.syncToken, tt.deleted))
		})
	}
	require.Equal(t, second+999_999, qbo.TombstoneVersion(at))
	require.Equal(t, second+4, qbo.Entity{LastUpdated: at, SyncToken: "4"}.Version())
}

func TestVersion_OrdersWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(0, 1<<53/1_000_000-2)
		a, b := second.Draw(t, "a"), second.Draw(t, "b")
		tokenA, tokenB := rapid.IntRange(0, 999_998).Draw(t, "tokenA"), rapid.IntRange(0, 999_998).Draw(t, "tokenB")
		va := qbo.Version(time.Unix(a, 0), strconv.Itoa(tokenA), false)
		vb := qbo.Version(time.Unix(b, 0), strconv.Itoa(tokenB), false)
		earlier := a < b || a == b && tokenA < tokenB
		require.Equal(t, earlier, va < vb, "time first, then SyncToken")
		dead := qbo.TombstoneVersion(time.Unix(a, 0))
		require.Greater(t, dead, va, "a deletion comes after every write of its second")
		require.Equal(t, a < b, dead < vb)
		require.Less(t, dead, int64(1)<<53)
		require.True(t, qbo.IsTombstone(dead))
		require.False(t, qbo.IsTombstone(va))
		require.Equal(t, time.Unix(a, 0).UTC(), qbo.VersionTime(va))
		require.Equal(t, time.Unix(a, 0).UTC(), qbo.VersionTime(dead))
	})
}

func TestNewer_AHigherSyncTokenWinsOverAnEarlierTime(t *testing.T) {
	t.Parallel()
	v := func(second, token int64) int64 { return second*1_000_000 + token }
	for _, test := range []struct {
		name       string
		have, want int64
		newer      bool
		after      int64
	}{
		{"none", 0, v(10, 0), true, v(10, 0)},
		{"itself", v(10, 5), v(10, 5), false, v(10, 5)},
		{"later", v(10, 5), v(11, 5), true, v(11, 5)},
		{"later with a lower token", v(10, 5), v(11, 4), true, v(11, 4)},
		{"earlier with a higher token", v(10, 5), v(9, 6), true, v(10, 6)},
		{"earlier with the same token", v(10, 5), v(9, 5), false, v(9, 5)},
		{"earlier than a tombstone", v(10, 999_999), v(9, 6), false, v(9, 6)},
		{"later than a tombstone", v(10, 999_999), v(11, 6), true, v(11, 6)},
		{"an earlier tombstone", v(10, 5), v(9, 999_999), false, v(9, 999_999)},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.newer, qbo.Newer(test.have, test.want))
			require.Equal(t, test.after, qbo.After(test.have, test.want))
		})
	}
}
