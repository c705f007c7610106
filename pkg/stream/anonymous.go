package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// Encrypted reports whether the connection is by TLS.
func (c *Conn) Encrypted() bool {
	_, err := c.nc.TLSConnectionState()
	return err == nil
}

// Anonymous reports whether the servers of cfg let in a client that does not log in.
func Anonymous(ctx context.Context, cfg Config) (bool, error) {
	stranger := DefaultConfig()
	stranger.URL, stranger.CAFile = cfg.URL, cfg.CAFile
	conn, err := Connect(ctx, Options{Config: stranger, Name: "stranger"})
	switch {
	case err == nil:
		conn.Close()
		return true, nil
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return false, nil
	}
	return false, err
}
