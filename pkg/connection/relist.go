package connection

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// Relist puts realms on the list that [Store.List] reads, those of them that have a
// record, and returns how many were not on it: Redis may evict the list, or somebody
// delete it.
func (s *Store) Relist(ctx context.Context, realms []string) (added int, err error) {
	for _, realm := range realms {
		within, cancel := context.WithTimeout(ctx, callTimeout)
		there, err := s.db.HGet(within, connKey(realm), fieldState).Result()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		if err == nil && there != "" && State(there) != erased {
			var n int64
			n, err = s.db.SAdd(within, realmsKey, realm).Result()
			added += int(n)
		}
		cancel()
		if err != nil {
			return added, fmt.Errorf("add realm %s to the list again: %w", realm, err)
		}
	}
	return added, nil
}

// Records looks through all keys for the records of connections, and returns their realms.
// It costs a pass over the whole database.
func (s *Store) Records(ctx context.Context) (realms []string, err error) {
	return s.realmsOf(ctx, "conn")
}

// Scanned looks through all keys for cursors, and returns their realms: they were
// connected, even if nothing else is left of them. It costs as much as Records.
func (s *Store) Scanned(ctx context.Context) (realms []string, err error) {
	return s.realmsOf(ctx, "cur")
}

func (s *Store) realmsOf(ctx context.Context, kind string) (realms []string, err error) {
	prefix, _, _ := strings.Cut(state.Key(kind, "x"), "{")
	look := func(ctx context.Context, c redis.Cmdable) error {
		for cursor := uint64(0); ; {
			within, cancel := context.WithTimeout(ctx, callTimeout)
			keys, next, err := c.Scan(within, cursor, prefix+"{*}", 1000).Result()
			cancel()
			if err != nil {
				return err
			}
			for _, key := range keys {
				realm, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(key, prefix+"{"), "}"))
				if err == nil && state.Key(kind, realm) == key {
					realms = append(realms, realm)
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := s.db.(*redis.ClusterClient); ok {
		// One node after the other: they add to the same list.
		var masters []*redis.Client
		err = cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			masters = append(masters, c)
			return nil
		})
		for _, master := range masters {
			if err == nil {
				err = look(ctx, master)
			}
		}
	} else {
		err = look(ctx, s.db)
	}
	if err != nil {
		return nil, fmt.Errorf("find realms: %w", err)
	}
	return realms, nil
}
