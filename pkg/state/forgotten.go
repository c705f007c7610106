package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ErrLostAgain says that Redis lost data while it was given back what it had lost.
var ErrLostAgain = errors.New("redis lost data again")

const lifeKey = durable + "life"

// Memory is which Redis it is, and since when it knows all that it should. Two that are
// equal say that nothing was lost in between.
type Memory struct {
	life  string // of the servers, see lifeOf; empty where they do not say it
	noted string // the life that Remembered noted, and a mark of that note
}

// Forgotten reports whether Redis may have lost something since [Store.Remembered] was
// last called: it is another process (its run_id), has evicted keys since, or does not know
// of that call any more.
// A restart that lost nothing looks the same as one that did. Where the server does not
// say its run_id, only the loss of everything shows.
func (m Memory) Forgotten() bool {
	life, _, noted := strings.Cut(m.noted, "#") // what Remembering notes has none
	return !noted || life != m.life
}

// Memory asks Redis.
func (s *Store) Memory(ctx context.Context) (m Memory, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	m.noted, err = s.db.Get(ctx, lifeKey).Result()
	if err == nil || errors.Is(err, redis.Nil) {
		m.life, err = s.life(ctx)
	}
	if err != nil {
		return Memory{}, fmt.Errorf("read the epoch of Redis: %w", err)
	}
	return m, nil
}

// Remembering notes that what Redis may have lost is about to be given back. It returns
// what [Store.Remembered] needs.
func (s *Store) Remembering(ctx context.Context, m Memory) (Memory, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	m.noted = rand.Text()
	if err := s.db.Set(ctx, lifeKey, m.noted, 0).Err(); err != nil {
		return Memory{}, fmt.Errorf("record the start of a restore of marks: %w", err)
	}
	return m, nil
}

// Remembered notes that what Redis may have lost is there again, as far as somebody else
// knew it. m is what Remembering returned; the error is [ErrLostAgain] if Redis does not
// know of that any more, for it may have lost what it was given since.
func (s *Store) Remembered(ctx context.Context, m Memory) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	// Each note is another, for those who look only after the next one.
	noted, err := ifGenerationScript.Run(ctx, s.db, []string{lifeKey, lifeKey}, m.noted, "SET", m.life+"#"+rand.Text()).Bool()
	if err == nil && !noted {
		err = ErrLostAgain
	}
	if err != nil {
		return fmt.Errorf("record the end of a restore of marks: %w", err)
	}
	return nil
}

// lifeOf is the run_id of a server and, where it has thrown away keys that do not expire,
// how many. With a policy volatile-* those that matter stay.
func lifeOf(said map[string]string) string {
	id, evicted := said["run_id"], said["evicted_keys"]
	if id == "" || evicted == "" || evicted == "0" || strings.HasPrefix(said["maxmemory_policy"], "volatile-") {
		return id
	}
	return id + "-" + evicted
}

// life is that of all servers that take writes, sorted.
func (s *Store) life(ctx context.Context) (string, error) {
	var mu sync.Mutex
	var ids []string
	ask := func(ctx context.Context, c redis.Cmdable) error {
		text, err := c.Info(ctx).Result()
		var refused redis.Error
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, lifeOf(infoFields(text)))
		return nil
	}
	var err error
	if cluster, ok := s.db.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	} else {
		err = ask(ctx, s.db)
	}
	slices.Sort(ids)
	return strings.Join(ids, ","), err
}
