package state

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// quietFor is how long no call is granted by a Redis that has just begun, or that has taken
// over: it may have forgotten calls under way. They note themselves again every 300 ms,
// and go-redis dials once a second where nobody answered.
const quietFor = 2 * time.Second

// servers are the Redis processes a store has met, by their run_ids.
type servers struct {
	mu    sync.Mutex // guards the rest
	known map[string]bool
	until time.Time // the end of the quiet
}

// met is for each new connection: the first command to another server comes after it.
// A server that does not say what it is has no quiet.
func (s *servers) met(ctx context.Context, c *redis.Conn) error {
	text, _ := c.Info(ctx, "server").Result() // refused by some; a broken connection shows soon
	said := infoFields(text)
	id := said["run_id"]
	if id == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] {
		return nil
	}
	quiet := quietFor
	if len(s.known) == 0 {
		// It may have run for long.
		if up, err := strconv.Atoi(said["uptime_in_seconds"]); err == nil {
			quiet -= time.Duration(up) * time.Second
		}
		s.known = map[string]bool{}
	}
	s.known[id] = true
	if until := time.Now().Add(quiet); until.After(s.until) {
		s.until = until
	}
	return nil
}

// quiet is how long no call may be granted yet.
func (s *servers) quiet() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(time.Until(s.until), 0)
}
