package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Reach connects and asks for nothing but an answer; it makes and changes nothing.
func Reach(ctx context.Context, url secret.String) error {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return fmt.Errorf("postgres sink: %w", err) // pgx leaves the password out
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.Ping(ctx)
}
