package connection

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// Late are the events of webhooks that came after a realm was disconnected.
type Late struct {
	Events      int64
	First, Last time.Time
}

// lateAfter is how long after a disconnect webhooks may still be under way.
const lateAfter = time.Hour

var (
	//go:embed late.lua
	lateLua    string
	lateScript = redis.NewScript(state.ClockLua + lateLua)
)

// NoteLate counts events of webhooks for a realm that is [Disconnected]; for others it
// does nothing.
func (s *Store) NoteLate(ctx context.Context, realm string, events int) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	active, err := lateScript.Run(ctx, s.db, []string{connKey(realm)}, events, s.stamp(), lateAfter.Milliseconds()).Bool()
	if err != nil {
		return fmt.Errorf("count webhooks of disconnected realm %s: %w", realm, err)
	}
	if active {
		s.metrics.late.Add(float64(events))
	}
	return nil
}

// GrantActive reports whether webhooks of a disconnected realm show that Intuit still
// lets the app read the company: they came longer after it than any are under way.
func (c Connection) GrantActive() bool {
	return c.State == Disconnected && c.Late.Last.Sub(c.ChangedAt) > lateAfter
}

func late(fields map[string]string) Late {
	n, err := strconv.ParseInt(fields[fieldLateEvents], 10, 64)
	if err != nil {
		return Late{}
	}
	return Late{Events: n, First: fromMillis(fields[fieldLateFirst]), Last: fromMillis(fields[fieldLateLast])}
}
