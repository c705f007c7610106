package state

import (
	"context"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Encrypted reports whether the URL asks for TLS.
func (c Config) Encrypted() bool { return strings.HasPrefix(c.URL.Reveal(), "rediss://") }

// Anonymous reports whether the Redis of cfg answers a client that does not log in.
func Anonymous(ctx context.Context, cfg Config) (bool, error) {
	cfg.URL = secret.String(cfg.place())
	client, _, err := cfg.dial(nil, newLogin(cfg))
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	err = client.Ping(ctx).Err()
	if err != nil && (strings.Contains(err.Error(), "NOAUTH") || strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "NOPERM")) {
		return false, nil
	}
	return err == nil, err
}

// User is who this connection is to Redis. A user that may not even ask that is no
// default user: limited is true.
func (s *Store) User(ctx context.Context) (name string, limited bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	name, err = s.db.Do(ctx, "ACL", "WHOAMI").Text()
	if err != nil && strings.Contains(err.Error(), "NOPERM") {
		return "", true, nil
	}
	return name, name != "" && name != "default", err
}
