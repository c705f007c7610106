package connection

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// none is the part of the index for names that lead to nothing: their connecting
// failed half way.
const none = "none"

// The times that are indexed.
const (
	indexRefresh = "refresh"
	indexHard    = "hard"
	indexRetry   = "retry"
)

// batch bounds the commands of one round trip.
const batch = 500

var (
	//go:embed index.lua
	indexLua    string
	indexScript = redis.NewScript(indexLua)
)

// places are the names of the index by state, in the order of the script's keys.
func places() []string {
	names := make([]string, 0, len(States())+1)
	for _, state := range States() {
		names = append(names, string(state))
	}
	return append(names, none)
}

// index puts a realm where it belongs by what is stored. It is called after each
// change; if it fails, the index is behind until it is read or made anew.
func (s *Store) index(ctx context.Context, realm string) {
	r, err := s.load(ctx, realm)
	if err != nil && r.RealmID == "" && !errors.Is(err, ErrNotConnected) {
		s.log.Debug("realm not indexed", telemetry.Realm(realm), telemetry.Error(err))
		return
	}
	if err := s.place(ctx, []placed{{realm, r}}); err != nil {
		s.log.Debug("realm not indexed", telemetry.Realm(realm), telemetry.Error(err))
	}
}

// placed is a realm and what is stored of it; the zero record is nothing.
type placed struct {
	realm  string
	record record
}

// place puts realms where they belong. A token that does not open leaves no
// deadlines.
func (s *Store) place(ctx context.Context, realms []placed) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names := places()
	keys := make([]string, 0, len(names)+3)
	for _, name := range append(slices.Clone(names), indexRefresh, indexHard, indexRetry) {
		keys = append(keys, indexKey(name))
	}
	// By its text: a pipeline cannot tell of a script that is not loaded.
	pipe := s.db.Pipeline()
	for _, p := range realms {
		at := slices.Index(names, string(p.record.State)) + 1
		if at == 0 {
			at = len(names)
		}
		refresh, hard := deadlines(p.record)
		indexScript.Eval(ctx, pipe, keys, p.realm, at, refresh, hard, unix(s.retryAt(p.record)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("index the realms: %w", err)
	}
	return nil
}

// deadlines are when the tokens of a realm lapse, in Unix seconds; 0 for none. A
// realm that waits for a person has none to watch.
func deadlines(r record) (refresh, hard int64) {
	if !r.refreshable() {
		return 0, 0
	}
	return unix(r.Token.RefreshExpires), unix(r.Token.RefreshHardExpires)
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.Unix(), 0)
}

// Reindex makes the index anew from what is stored, which takes some seconds for
// 100,000 realms. Nobody has to call it: [Store.Page] and [Store.Watch] do when the
// index is behind.
func (s *Store) Reindex(ctx context.Context) error {
	realms, err := s.List(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(realms, batch) {
		records, err := s.loadAll(ctx, part)
		if err != nil {
			return err
		}
		if err := s.place(ctx, records); err != nil {
			return err
		}
	}
	return nil
}

// loadAll is load for many realms in one round trip. Of a realm whose token does not
// open the rest is returned.
func (s *Store) loadAll(ctx context.Context, realms []string) ([]placed, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.db.Pipeline()
	found := make([]*redis.MapStringStringCmd, len(realms))
	for i, realm := range realms {
		found[i] = pipe.HGetAll(ctx, connKey(realm))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the connections of %d realms: %w", len(realms), err)
	}
	all := make([]placed, len(realms))
	for i, realm := range realms {
		r, err := s.parse(realm, found[i].Val())
		r.openError = err
		all[i] = placed{realm, r}
	}
	return all, nil
}
