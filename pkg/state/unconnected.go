package state

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxUnconnected is how many realms of an app that are not connected get a dead letter
// a day.
const MaxUnconnected = 10000

const unconnectedLife = 48 * time.Hour

var (
	//go:embed unconnected.lua
	unconnectedLua    string
	unconnectedScript = redis.NewScript(unconnectedLua)
)

// FirstUnconnected reports whether events of a realm that is not connected come for the
// first time that day, which [Store.ForgetUnconnected] takes back. Beyond
// [MaxUnconnected] realms a day it is false.
func (s *Store) FirstUnconnected(ctx context.Context, app, realm string) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := unconnectedScript.Run(ctx, s.db, []string{s.unconnectedKey(app)}, realm, MaxUnconnected, int(unconnectedLife/time.Second)).Int()
	if err != nil {
		return false, fmt.Errorf("record events of realm %s: %w", realm, err)
	}
	return n == 1, nil
}

// ForgetUnconnected makes the next events of the realm the first of the day again.
func (s *Store) ForgetUnconnected(ctx context.Context, app, realm string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.SRem(ctx, s.unconnectedKey(app), realm).Err(); err != nil {
		return fmt.Errorf("delete events of realm %s: %w", realm, err)
	}
	return nil
}

func (s *Store) unconnectedKey(app string) string {
	return durable + "unconnected:" + tag(app) + ":" + s.now().UTC().Format(time.DateOnly)
}
