package state

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	//go:embed replica_beat.lua
	replicaBeatLua    string
	replicaBeatScript = redis.NewScript(replicaBeatLua)
)

const (
	// A replica says that it lives so often; one that has not for so long does not
	// count.
	beatInterval = 2 * time.Second
	beatLife     = 7 * time.Second
)

// Members is a replica's place on the list of those of a service that live.
type Members struct {
	store   *Store
	log     *zap.Logger
	service string
	id      string
}

// Members makes a place for a new replica of the service; it is on the list while
// Run runs.
func (s *Store) Members(service string, log *zap.Logger) *Members {
	return &Members{store: s, log: log, service: service, id: rand.Text()}
}

// ID is this replica's on the list.
func (m *Members) ID() string { return m.id }

// Run keeps the replica on the list until ctx ends and tells of all that are on it,
// sorted, this one included, whenever they are others than before. While Redis does
// not answer it tells nothing: they stay what they were.
func (m *Members) Run(ctx context.Context, changed func(replicas []string)) {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	var last []string
	for {
		replicas, err := m.store.beat(ctx, m.service, m.id, beatLife)
		slices.Sort(replicas)
		switch {
		case err == nil && !slices.Equal(replicas, last):
			last = replicas
			changed(replicas)
		case err != nil && ctx.Err() == nil:
			m.log.Debug("replicas unknown", telemetry.Error(err))
		}
		select {
		case <-ctx.Done():
			// So that the others need not wait for its life to end.
			if err := m.store.leave(context.WithoutCancel(ctx), m.service, m.id); err != nil {
				m.log.Debug("replica not removed from the list", telemetry.Error(err))
			}
			return
		case <-tick.C:
		}
	}
}

// beat says that a replica lives, for a time from now by Redis's clock, and returns
// those that do.
func (s *Store) beat(ctx context.Context, service, id string, life time.Duration) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	ids, err := replicaBeatScript.Run(ctx, s.db, []string{ephemeralKey("replicas", service)}, id, life.Milliseconds()).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("record replica of %s: %w", service, err)
	}
	return ids, nil
}

func (s *Store) leave(ctx context.Context, service, id string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.ZRem(ctx, ephemeralKey("replicas", service), id).Err(); err != nil {
		return fmt.Errorf("remove replica of %s from the list: %w", service, err)
	}
	return nil
}

// Replicas returns the ids of the replicas of a service that live, or did some
// seconds ago.
func (s *Store) Replicas(ctx context.Context, service string) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	ids, err := s.db.ZRange(ctx, ephemeralKey("replicas", service), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list replicas of %s: %w", service, err)
	}
	return ids, nil
}
