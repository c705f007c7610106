package postgres_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
)

// The password of the role is another one, and the connections that there were are cut.
func TestSink_TakesAnotherPassword(t *testing.T) {
	g := devtest.StartGuarded(t, "127.0.0.1", "first")
	s := open(t, postgres.Options{URL: secret.String(g.PostgresURL("first"))})
	write(t, s, sinktest.Change("1", 1, `{}`))
	next := sinktest.Change("2", 1, `{}`)

	g.SetPostgresPassword("second")
	require.Eventually(t, func() bool {
		err := s.Write(t.Context(), changes(next))
		return err != nil && !strings.Contains(err.Error(), "first") && strings.Contains(err.Error(), "28P01")
	}, 20*time.Second, 10*time.Millisecond)
	require.True(t, postgres.SamePlace(secret.String(g.PostgresURL("first")), secret.String(g.PostgresURL("second"))))
	s.SetURL(secret.String(g.PostgresURL("second")))
	write(t, s, next)
}

// A password file is read for each connection; while it is replaced, the last one counts.
func TestSink_ReadsThePasswordFileAgain(t *testing.T) {
	g := devtest.StartGuarded(t, "127.0.0.1", "first")
	file := filepath.Join(t.TempDir(), "pgpass")
	put := func(password string) {
		require.NoError(t, os.WriteFile(file, []byte("*:*:*:"+devtest.GuardedUser+":"+password+"\n"), 0o600))
	}
	put("first")
	t.Setenv("PGPASSFILE", file)
	u, err := url.Parse(g.PostgresURL(""))
	require.NoError(t, err)
	u.User = url.User(devtest.GuardedUser)
	s := open(t, postgres.Options{URL: secret.String(u.String())})
	write(t, s, sinktest.Change("1", 1, `{}`))

	require.NoError(t, os.Remove(file))
	g.CutPostgres()
	next := sinktest.Change("2", 1, `{}`)
	require.Eventually(t, func() bool { return s.Write(t.Context(), changes(next)) == nil }, 20*time.Second, 10*time.Millisecond)

	g.SetPostgresPassword("second")
	put("second")
	last := sinktest.Change("3", 1, `{}`)
	require.Eventually(t, func() bool { return s.Write(t.Context(), changes(last)) == nil }, 20*time.Second, 10*time.Millisecond)
}

func TestSamePlace_LooksAtAllButTheLogin(t *testing.T) {
	const here = "postgres://feed:one@db:5432/books?sslmode=disable"
	for _, tt := range []struct {
		name, other string
		want        bool
	}{
		{"password", "postgres://feed:two@db:5432/books?sslmode=disable", true},
		{"user", "postgres://feed2:two@db:5432/books?sslmode=disable", true},
		{"in the query", "postgres://db:5432/books?sslmode=disable&user=x&password=y", true},
		{"host", "postgres://feed:one@other:5432/books?sslmode=disable", false},
		{"database", "postgres://feed:one@db:5432/other?sslmode=disable", false},
		{"TLS", "postgres://feed:one@db:5432/books?sslmode=require", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, postgres.SamePlace(here, secret.String(tt.other)))
		})
	}
	const words = "host=db dbname=books user=feed password=one"
	require.True(t, postgres.SamePlace(words, "host=db dbname=books user=other password=two"))
	require.False(t, postgres.SamePlace(words, "host=db dbname=other user=feed password=one"))
}

// A database that was restored from before an upgrade gets its tables again.
func TestSink_MakesTablesAgainThatAreGone(t *testing.T) {
	u := devtest.Postgres(t)
	s := open(t, postgres.Options{URL: secret.String(u)})
	write(t, s, sinktest.Change("1", 1, `{}`))
	exec(t, u, `drop schema ledgerfeed cascade`)
	require.Error(t, s.Write(t.Context(), changes(sinktest.Change("2", 1, `{}`))))
	write(t, s, sinktest.Change("2", 1, `{}`))
	require.EqualValues(t, 1, query[int64](t, u, `select count(*) from ledgerfeed.entity`))
}
