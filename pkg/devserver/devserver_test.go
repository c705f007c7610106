package devserver_test

import (
	"context"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	goleak.VerifyTestMain(m)
}

func startRedis(t testing.TB, journal string) *devserver.Redis {
	t.Helper()
	r, err := devserver.StartRedis(devserver.RedisOptions{Journal: journal})
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func client(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// dump is all data of a Redis, ephemeral keys left out.
func dump(t testing.TB, c *redis.Client) map[string]any {
	t.Helper()
	ctx := context.Background()
	keys, err := c.Keys(ctx, "*").Result()
	require.NoError(t, err)
	all := map[string]any{}
	for _, key := range keys {
		if len(key) >= 7 && key[:7] == "lf:tmp:" {
			continue
		}
		kind, err := c.Type(ctx, key).Result()
		require.NoError(t, err)
		var v any
		switch kind {
		case "string":
			v, err = c.Get(ctx, key).Result()
		case "hash":
			v, err = c.HGetAll(ctx, key).Result()
		case "list":
			v, err = c.LRange(ctx, key, 0, -1).Result()
		case "set":
			var members []string
			members, err = c.SMembers(ctx, key).Result()
			set := map[string]bool{}
			for _, m := range members {
				set[m] = true
			}
			v = set
		case "zset":
			v, err = c.ZRangeWithScores(ctx, key, 0, -1).Result()
		}
		require.NoError(t, err)
		all[key] = v
		ttl, err := c.TTL(ctx, key).Result()
		require.NoError(t, err)
		all["has ttl "+key] = ttl > 0
	}
	return all
}
