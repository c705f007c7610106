package devserver

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// RedisOptions say where the embedded Redis keeps its data.
type RedisOptions struct {
	// Journal is the file that keeps the data; created if missing. Empty keeps
	// the data in memory only.
	Journal string
	// Listen is the loopback address, "127.0.0.1:0" (any free port) if empty.
	Listen string
}

// Redis is a running embedded Redis.
type Redis struct {
	mini *miniredis.Miniredis
}

// StartRedis starts a server and returns when it takes connections. Close it.
func StartRedis(o RedisOptions) (*Redis, error) {
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(listen); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	m.ClockTTL(true)
	return &Redis{mini: m}, nil
}

// URL is where clients connect to.
func (r *Redis) URL() string { return "redis://" + r.mini.Addr() + "/0" }

// Close stops the server.
func (r *Redis) Close() { r.mini.Close() }
