package state

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// realmKinds are the kinds of keys that belong to one realm each: those of another realm
// hold nothing of this one. A kind that is missing here only costs a look.
var realmKinds = []string{
	"mark", "follow", "referenced", "refreshed", "merged", "cur", "gen", "scan", "dead", "absent", "swept", "counted", "gaps", "seen",
	"company", "pace", "refused", "refusal", "unread", "loaded", "use", "fields", "job", "audit", "conn", "limit", "slot", "wait", "recent",
}

// EraseRealm deletes all there is of a realm in Redis, but for the keys in keep, and returns
// how many keys and members that were, by kind. With dryRun it only counts. It costs a pass
// over the whole database. The log of actions stays: it says who did what. What runs
// meanwhile may write again: see package erasure.
func (s *Store) EraseRealm(ctx context.Context, realm string, dryRun bool, keep ...string) (map[string]int, error) {
	e := realmEraser{store: s, realm: url.QueryEscape(realm), dryRun: dryRun, keep: keep, found: map[string]int{}}
	if cluster, ok := s.db.(*redis.ClusterClient); ok {
		masters := make(chan *redis.Client, 1000)
		err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error { masters <- c; return nil })
		close(masters)
		for master := range masters { // one after the other: they count together
			if err == nil {
				err = e.pass(ctx, master)
			}
		}
		if err != nil {
			return e.found, fmt.Errorf("erase realm %s: %w", realm, err)
		}
		return e.found, nil
	}
	if err := e.pass(ctx, s.db); err != nil {
		return e.found, fmt.Errorf("erase realm %s: %w", realm, err)
	}
	return e.found, nil
}

// realmEraser is one pass for one realm.
type realmEraser struct {
	store  *Store
	realm  string // as it is in keys and fields
	dryRun bool
	keep   []string
	found  map[string]int
}

func (e *realmEraser) pass(ctx context.Context, db redis.Cmdable) error {
	for cursor := uint64(0); ; {
		within, cancel := e.store.bound(ctx)
		keys, next, err := db.Scan(within, cursor, "lf:*", 1000).Result()
		cancel()
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := e.key(ctx, key); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// key deletes the key if it is the realm's, and otherwise what it holds of the realm.
func (e *realmEraser) key(ctx context.Context, key string) error {
	kind, tag := partsOf(key)
	switch {
	case slices.Contains(e.keep, key) || kind == "actions":
		return nil
	case tag == e.realm || strings.HasSuffix(tag, "%3A"+e.realm):
		e.found[kind]++
		if e.dryRun {
			return nil
		}
		ctx, cancel := e.store.bound(ctx)
		defer cancel()
		return e.store.db.Unlink(ctx, key).Err()
	case slices.Contains(realmKinds, kind):
		return nil
	}
	n, err := e.members(ctx, kind, key)
	if n > 0 {
		e.found[kind] += n
	}
	return err
}

// partsOf are the kind of a key and its hash tag.
func partsOf(key string) (kind, tag string) {
	rest := strings.TrimPrefix(strings.TrimPrefix(key, durable), ephemeral)
	kind, _, _ = strings.Cut(rest, ":")
	_, tag, _ = strings.Cut(rest, "{")
	tag, _, _ = strings.Cut(tag, "}")
	return kind, tag
}

// members removes the realm from a key that is of many.
func (e *realmEraser) members(ctx context.Context, kind, key string) (int, error) {
	within, cancel := e.store.bound(ctx)
	shape, err := e.store.db.Type(within, key).Result()
	cancel()
	if err != nil {
		return 0, err
	}
	switch shape {
	case "set":
		return e.one(ctx, func(ctx context.Context) (bool, error) { return e.store.db.SIsMember(ctx, key, e.realm).Result() },
			func(ctx context.Context) error { return e.store.db.SRem(ctx, key, e.realm).Err() })
	case "zset":
		return e.one(ctx, func(ctx context.Context) (bool, error) {
			err := e.store.db.ZScore(ctx, key, e.realm).Err()
			return err == nil, ignoreNil(err)
		}, func(ctx context.Context) error { return e.store.db.ZRem(ctx, key, e.realm).Err() })
	case "hash":
		return e.fields(ctx, key)
	case "string":
		if kind != "consent" {
			return 0, nil
		}
		return e.one(ctx, func(ctx context.Context) (bool, error) {
			text, err := e.store.db.Get(ctx, key).Result()
			return strings.Contains(text, `"`+e.realm+`"`), ignoreNil(err)
		}, func(ctx context.Context) error { return e.store.db.Unlink(ctx, key).Err() })
	}
	return 0, nil
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (e *realmEraser) one(ctx context.Context, has func(context.Context) (bool, error), remove func(context.Context) error) (int, error) {
	ctx, cancel := e.store.bound(ctx)
	defer cancel()
	there, err := has(ctx)
	if err != nil || !there {
		return 0, err
	}
	if !e.dryRun {
		err = remove(ctx)
	}
	return 1, err
}

// fields removes the fields of a hash that name the realm: "realm", "realm:entity" and
// such.
func (e *realmEraser) fields(ctx context.Context, key string) (n int, err error) {
	names := func(field string) bool {
		return slices.Contains(strings.FieldsFunc(field, func(r rune) bool { return r == ':' || r == ' ' }), e.realm)
	}
	for cursor := uint64(0); ; {
		within, cancel := e.store.bound(ctx)
		page, next, err := e.store.db.HScan(within, key, cursor, "*"+e.realm+"*", 1000).Result()
		var fields []string
		for i := 0; i+1 < len(page); i += 2 {
			if names(page[i]) {
				fields = append(fields, page[i])
			}
		}
		if err == nil && len(fields) > 0 && !e.dryRun {
			err = e.store.db.HDel(within, key, fields...).Err()
		}
		cancel()
		if err != nil {
			return n, err
		}
		n += len(fields)
		if cursor = next; cursor == 0 {
			return n, nil
		}
	}
}
