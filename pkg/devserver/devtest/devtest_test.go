package devtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRedis_IsEmptyAndOnesOwn(t *testing.T) {
	ctx := context.Background()
	for name, start := range map[string]func(testing.TB) string{"embedded": devtest.Redis, "real": devtest.RealRedis} {
		t.Run(name, func(t *testing.T) {
			a, b := client(t, start(t)), client(t, start(t))
			require.NoError(t, a.Set(ctx, "k", "v", 0).Err())
			n, err := b.DBSize(ctx).Result()
			require.NoError(t, err)
			require.Zero(t, n)
		})
	}
}

func TestRedisServer_KeepsItsDataThroughAKill(t *testing.T) {
	ctx := context.Background()
	s := devtest.StartRealRedis(t)
	c := client(t, s.URL())
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())

	s.Kill()
	require.Error(t, c.Ping(ctx).Err())

	s.Start()
	got, err := c.Get(ctx, "k").Result()
	require.NoError(t, err)
	require.Equal(t, "v", got)
}

func TestPostgres_DatabasesAreOnesOwn(t *testing.T) {
	a, b := devtest.Postgres(t), devtest.Postgres(t)
	require.NotEqual(t, a, b)

	query(t, a, "create table t (x int)")
	require.Equal(t, "1", query(t, a, "select count(*) from pg_tables where tablename = 't'"))
	require.Equal(t, "0", query(t, b, "select count(*) from pg_tables where tablename = 't'"))
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	psql := "psql"
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/psql"); len(found) > 0 {
		psql = found[0]
	}
	out, err := exec.Command(psql, "-X", "-A", "-t", "-c", sql, url).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}
