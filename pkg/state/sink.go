package state

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed sinks.lua
	sinksLua    string
	sinksScript = redis.NewScript(sinksLua)
)

// Sinks returns the names of the sinks that changes must reach, sorted.
func (s *Store) Sinks(ctx context.Context) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	names, err := s.db.SMembers(ctx, durable+"sinks").Result()
	if err != nil {
		return nil, fmt.Errorf("list sinks: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// RegisterSinks adds names and returns those that were not there, sorted: what
// happened before is theirs to catch up on. Only one of several replicas that
// start at once is told so.
func (s *Store) RegisterSinks(ctx context.Context, names []string) (added []string, err error) {
	return s.changeSinks(ctx, "keep", names)
}

// SetSinks makes names the only sinks and returns those that were not there,
// sorted. Marks of the others stay: a sink that comes back under its name is
// added, but is not sent again what it had.
func (s *Store) SetSinks(ctx context.Context, names []string) (added []string, err error) {
	return s.changeSinks(ctx, "drop", names)
}

func (s *Store) changeSinks(ctx context.Context, others string, names []string) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args := []any{others}
	for _, n := range names {
		args = append(args, n)
	}
	added, err := sinksScript.Run(ctx, s.db, []string{durable + "sinks"}, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("register sinks: %w", err)
	}
	slices.Sort(added)
	return added, nil
}
