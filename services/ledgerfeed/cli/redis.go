package cli

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// StateConfig is what the commands that only look into Redis, or leave something
// there for the reconcilers, read from the environment: the services' variables.
type StateConfig struct {
	Redis state.Config `koanf:"redis"`
}

// DefaultStateConfig is the services' default.
func DefaultStateConfig() StateConfig { return StateConfig{Redis: state.DefaultConfig()} }

// Validate names every setting that cannot be used.
func (c StateConfig) Validate() error { return c.Redis.Validate() }

// redisFlags say where Redis is.
type redisFlags struct {
	RedisURL string `placeholder:"URL" name:"redis-url" help:"Redis URL, as printed by ledgerfeed dev (LEDGERFEED_REDIS_URL)."`
}

// open opens the Redis that the services use. Close it.
func (f redisFlags) open(ctx context.Context, p process) (*state.Store, error) {
	cfg := DefaultStateConfig()
	environ := os.Environ()
	if f.RedisURL != "" {
		environ = without(environ, "LEDGERFEED_REDIS_URL")
		environ = append(environ, "LEDGERFEED_REDIS_URL="+f.RedisURL)
	}
	if err := config.Load(&cfg, "", environ); err != nil {
		return nil, err
	}
	log, err := p.logger()
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, state.Options{Config: cfg.Redis, Logger: log.Named("redis")})
	if errors.Is(err, state.ErrUnreachable) {
		return nil, lifecycle.Unreachable("", err)
	}
	return store, err
}

// without is an environment that lacks a variable, and the file it may be read from.
func without(environ []string, name string) []string {
	var kept []string
	for _, e := range environ {
		if key, _, _ := strings.Cut(e, "="); key != name && key != name+"_FILE" {
			kept = append(kept, e)
		}
	}
	return kept
}
