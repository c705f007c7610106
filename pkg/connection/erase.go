package connection

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	//go:embed erase.lua
	eraseLua    string
	eraseScript = redis.NewScript(state.ClockLua + eraseLua)
)

// Erase forgets a realm's tokens and its connection. What stays is that it was erased, and
// why: services find it in place of the record and keep nothing of what still comes for the
// realm, until it is connected again. Realms that never were connected are erased too. It
// revokes nothing; see [Store.Revoke].
func (s *Store) Erase(ctx context.Context, realm, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := eraseScript.Run(ctx, s.db, []string{connKey(realm)}, reason, s.stamp()).Err(); err != nil {
		return fmt.Errorf("erase the connection of realm %s: %w", realm, err)
	}
	s.forgetKnown(realm)
	s.mu.Lock()
	delete(s.unsaved, realm)
	s.mu.Unlock()
	pipe := s.db.Pipeline()
	for _, key := range []string{realmsKey, lostKey, heldKey} {
		pipe.SRem(ctx, key, realm)
	}
	for _, name := range append(places(), indexRefresh, indexHard, indexRetry) {
		pipe.ZRem(ctx, indexKey(name), realm)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("remove realm %s from the lists: %w", realm, err)
	}
	s.log.Info("connection erased", telemetry.Realm(realm))
	return nil
}

// RecordKey is the key of a realm's record: of an erased one it holds the note of that.
func RecordKey(realm string) string { return connKey(realm) }
