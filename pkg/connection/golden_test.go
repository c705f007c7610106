package connection_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What is stored today must be readable by the version of tomorrow.
func TestRedis_Layout(t *testing.T) {
	t.Parallel()
	b := setup(t, devtest.RealRedis(t))
	b.setNow(noon)
	s := b.replica()
	first := b.connect(s)
	b.reject(s, first.Access)
	second := b.token(s)
	b.reject(s, second)
	require.NoError(t, s.SetState(t.Context(), realm, "reauth_required", "test"))

	sealed := regexp.MustCompile(`(1\.k1\.)[A-Za-z0-9+/]+`)
	got := sealed.ReplaceAllString(b.dump(), "${1}...")
	got = strings.NewReplacer("map[", "\n  ", "]", "").Replace(strings.ReplaceAll(got, " ", "\n  "))
	const file = "testdata/conn.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(string(want), got))
}

// A record as it was stored once: the realm's first token under the key k1.
func TestRedis_EarlierRecordsOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, embedded(t))
	b.setNow(noon)
	s := b.replica()
	token := b.connect(s)
	const file = "testdata/token.sealed"
	if *update {
		sealed, err := b.redis().HGet(t.Context(), "lf:1:conn:{"+realm+"}", "token").Result()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(sealed), 0o644))
	}
	record, err := os.ReadFile(file)
	require.NoError(t, err)
	b.setToken(realm, string(record))
	require.Empty(t, cmp.Diff(token, b.get(s).Token))
}
