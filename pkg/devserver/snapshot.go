package devserver

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// snapshotBatch is how many elements one command of a snapshot carries.
const snapshotBatch = 512

// writeSnapshot writes a whole journal that makes r's data anew, ephemeral keys
// left out, and returns its size. Redis' lock is held, or r is not running yet.
func writeSnapshot(w io.Writer, r *Redis) (int64, error) {
	s := &snapshot{w: w, at: time.Now()}
	first := journalMagic + journalVersion + "\n"
	n, err := io.WriteString(w, first)
	s.size = int64(n)
	if err != nil {
		return s.size, err
	}
	// What has expired by now does not belong into it.
	r.mini.SetTime(s.at)
	for _, key := range r.mini.Keys() {
		if strings.HasPrefix(key, ephemeralPrefix) {
			continue
		}
		if err := s.key(r, key); err != nil {
			return s.size, err
		}
	}
	return s.size, s.flush()
}

type snapshot struct {
	w       io.Writer
	at      time.Time
	pending []byte
	size    int64
}

func (s *snapshot) key(r *Redis, key string) error {
	m := r.mini
	var err error
	switch t := m.Type(key); t {
	case "string":
		var v string
		v, err = m.Get(key)
		s.add("SET", key, v)
	case "hash":
		var fields []string
		if fields, err = m.HKeys(key); err == nil {
			var pairs []string
			for _, f := range fields {
				pairs = append(pairs, f, m.HGet(key, f))
			}
			s.batches("HSET", key, pairs)
		}
	case "list":
		var items []string
		items, err = m.List(key)
		s.batches("RPUSH", key, items)
	case "set":
		var members []string
		members, err = m.SMembers(key)
		s.batches("SADD", key, members)
	case "zset":
		var scores map[string]float64
		if scores, err = m.SortedSet(key); err == nil {
			var pairs []string
			for _, member := range slices.Sorted(maps.Keys(scores)) {
				// The shortest text that reads as the same number.
				pairs = append(pairs, strconv.FormatFloat(scores[member], 'g', -1, 64), member)
			}
			s.batches("ZADD", key, pairs)
		}
	default:
		return fmt.Errorf("key %q is a %s, which a snapshot cannot hold", key, t)
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if ttl := m.TTL(key); ttl > 0 {
		s.add("PEXPIRE", key, strconv.FormatInt(max(ttl.Milliseconds(), 1), 10))
	}
	if len(s.pending) > 1<<20 {
		return s.flush()
	}
	return nil
}

func (s *snapshot) batches(name, key string, items []string) {
	for part := range slices.Chunk(items, snapshotBatch) {
		s.add(append([]string{name, key}, part...)...)
	}
}

func (s *snapshot) add(args ...string) {
	s.pending = op{at: s.at, commands: [][]string{args}}.encode(s.pending)
}

func (s *snapshot) flush() error {
	if len(s.pending) == 0 {
		return nil
	}
	n, err := writeFrame(s.w, s.pending)
	s.size += n
	s.pending = nil
	return err
}
