package devtest

import (
	"os"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// Redis starts an empty embedded Redis in this process and returns its URL.
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("REDIS_URL"); url != "" {
		t.Logf("devtest: Redis at %s (REDIS_URL)", url)
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

// RealRedis starts a redis-server of its own.
func RealRedis(t testing.TB) string {
	t.Helper()
	t.Fatal("devtest: redis-server cannot be started yet")
	return ""
}
