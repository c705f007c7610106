package connection

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed reseal.lua
	resealLua    string
	resealScript = redis.NewScript(resealLua)
)

// Rotated is what [Store.Rotate] made of a realm.
type Rotated int

const (
	// RotatedAlready: there is nothing that another key than the first sealed.
	RotatedAlready Rotated = iota
	// RotatedNow: its tokens are encrypted with the first key now.
	RotatedNow
	// RotatedMeanwhile: another process stored a new token at the same time; whether
	// with the first key depends on that process's ring. Call again.
	RotatedMeanwhile
)

// SetKeys replaces the ring: what is sealed from now on is sealed with its first key.
func (s *Store) SetKeys(c Config) error {
	keys, err := newKeyring(c.Keys)
	if err != nil {
		return err
	}
	s.keys.Store(keys)
	return nil
}

// FirstKey is the id of the key that encrypts.
func (s *Store) FirstKey() string { return s.keys.Load().first }

// Keys are the ids of the ring, the first one first.
func (s *Store) Keys() []string { return append([]string(nil), s.keys.Load().ids...) }

// Rotate encrypts a realm's tokens with the first key of the ring. A refresh at the
// same time wins.
func (s *Store) Rotate(ctx context.Context, realm string) (Rotated, error) {
	r, err := s.load(ctx, realm)
	if err != nil {
		return RotatedAlready, err
	}
	token, err := s.reseal(realm, r.sealed)
	if err != nil {
		return RotatedAlready, err
	}
	previous, err := s.reseal(realm, r.previous)
	if err != nil {
		return RotatedAlready, err
	}
	pending, err := s.reseal(realm, r.pending)
	if err != nil {
		return RotatedAlready, err
	}
	if token == r.sealed && previous == r.previous && pending == r.pending {
		return RotatedAlready, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done, err := resealScript.Run(ctx, s.db, []string{connKey(realm)}, r.Generation, r.sealed, token, r.previous, previous, r.pending, pending).Bool()
	switch {
	case err != nil:
		return RotatedAlready, fmt.Errorf("rotate the key of realm %s: %w", realm, err)
	case !done:
		return RotatedMeanwhile, nil
	}
	return RotatedNow, nil
}

// reseal returns a record as the first key seals it; one that it sealed stays.
func (s *Store) reseal(realm, record string) (string, error) {
	if record == "" || keyOf(record) == s.keys.Load().first {
		return record, nil
	}
	plain, err := s.keys.Load().open(realm, record)
	if err != nil {
		return "", fmt.Errorf("realm %s: %w", realm, err)
	}
	return s.keys.Load().seal(realm, plain), nil
}

// KeyUse is how many realms each key of the store seals something of, by its id.
type KeyUse map[string]int

// KeyUse looks at every realm, which takes some seconds for 100,000. Of a realm
// whose tokens cannot be opened the key is counted all the same.
func (s *Store) KeyUse(ctx context.Context) (KeyUse, error) {
	use := KeyUse{}
	err := s.Each(ctx, Query{}, func(l Listed) error {
		for _, key := range distinct(l.Key, l.PreviousKey, l.PendingKey) {
			use[key]++
		}
		return nil
	})
	return use, err
}

func distinct(all ...string) []string {
	var keys []string
	for _, key := range all {
		if key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Each calls f for every realm a query chooses, whatever its Limit, and stops at the
// first error.
func (s *Store) Each(ctx context.Context, q Query, f func(Listed) error) error {
	q.Limit = batch
	for {
		page, err := s.Page(ctx, q)
		if err != nil {
			return err
		}
		for _, l := range page.Realms {
			if err := f(l); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
	}
}
