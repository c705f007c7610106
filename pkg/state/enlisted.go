package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Registration is the configuration of the processor that has registered the sinks
// last. It says more than the set of sinks: a sink in it is loaded from the beginning as
// far as needed, and one that is missing from the set only was lost by Redis.
type Registration struct {
	// Config stands for the whole of the configuration of the sinks. Empty: nobody has
	// registered since this is kept.
	Config string `json:"config"`
	// Filters are the sinks, and which changes each is given, in one spelling; empty is
	// all. What a filter kept back before is loaded.
	Filters map[string]string `json:"filters"`
}

const (
	// The tag is the name of the set of sinks, so that both are in one slot.
	registrationKey = durable + "registered:{" + durable + "sinks}"
	// configLife is how long a configuration counts as in use after a replica said so.
	configLife = 35 * time.Second
)

// Registration returns the last one.
func (s *Store) Registration(ctx context.Context) (Registration, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := s.db.Get(ctx, registrationKey).Bytes()
	if errors.Is(err, redis.Nil) {
		return Registration{}, nil
	}
	var r Registration
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Registration{}, fmt.Errorf("read the registration of the sinks: %w", err)
	}
	return r, nil
}

// SetRegistration keeps one. Do so after the realms were rewound for its new sinks.
func (s *Store) SetRegistration(ctx context.Context, r Registration) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the registration of the sinks: %w", err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.Set(ctx, registrationKey, text, 0).Err(); err != nil {
		return fmt.Errorf("save the registration of the sinks: %w", err)
	}
	return nil
}

// UseConfig says that a replica runs with a configuration, for half a minute from now,
// and returns those of all replicas of the service by their ids, this one included.
func (s *Store) UseConfig(ctx context.Context, service, id, config string) (map[string]string, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := ephemeralKey("config", service)
	pipe := s.db.TxPipeline()
	pipe.ZRemRangeByScore(ctx, key, "-inf", fmt.Sprint(now.UnixMilli()))
	pipe.ZAdd(ctx, key, redis.Z{Score: float64(now.Add(configLife).UnixMilli()), Member: id + " " + config})
	pipe.PExpire(ctx, key, configLife)
	members := pipe.ZRange(ctx, key, 0, -1)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("record the configuration of a replica of %s: %w", service, err)
	}
	configs := map[string]string{}
	for _, m := range members.Val() {
		id, config, _ := strings.Cut(m, " ")
		configs[id] = config
	}
	return configs, nil
}

// LeaveConfig ends what UseConfig has said, so that the others need not wait.
func (s *Store) LeaveConfig(ctx context.Context, service, id, config string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.ZRem(ctx, ephemeralKey("config", service), id+" "+config).Err(); err != nil {
		return fmt.Errorf("delete the configuration of a replica of %s: %w", service, err)
	}
	return nil
}

// DropMarks forgets what a sink has of some entities of a realm: it is given all again.
func (s *Store) DropMarks(ctx context.Context, realm, sink string, entities []string) error {
	for part := range slices.Chunk(entities, batch) {
		keys := make([]string, len(part))
		for i, entity := range part {
			keys[i] = markKey(realm, sink, entity)
		}
		bounded, cancel := s.bound(ctx)
		err := s.db.Unlink(bounded, keys...).Err()
		cancel()
		if err != nil {
			return fmt.Errorf("drop marks of sink %s in realm %s: %w", sink, realm, err)
		}
	}
	return nil
}
