package devtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// Redis starts an empty embedded Redis in this process and returns its URL. With
// REDIS_URL set that server is used instead, and its database emptied: never point
// it at one whose data matter, and run one package at a time (go test -p 1).
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("REDIS_URL"); url != "" {
		flush(t, url)
		t.Logf("devtest: Redis at REDIS_URL, emptied")
		return url
	}
	r, err := devserver.StartRedis(devserver.RedisOptions{})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(r.Close)
	t.Logf("devtest: Redis in process at %s", r.URL())
	return r.URL()
}

func flush(t testing.TB, url string) {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal("devtest: REDIS_URL is no Redis URL, want redis://host:port/db")
	}
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.FlushDB(ctx).Err(); err != nil {
		t.Fatalf("devtest: empty the database at REDIS_URL: %v", err)
	}
}
