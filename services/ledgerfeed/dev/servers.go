package dev

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func (f *feed) openState(ctx context.Context) error {
	url := f.o.RedisURL
	if url == "" {
		redis, err := devserver.StartRedis(devserver.RedisOptions{Journal: f.data.file("redis.journal")})
		if err != nil {
			return fmt.Errorf("start the embedded Redis: %w", err)
		}
		f.deferClose("redis", func() error { redis.Close(); return nil })
		url = secret.String(redis.URL())
	}
	f.redisAddress = addressOf(url.Reveal())
	st, err := state.Open(ctx, state.Options{Config: state.Config{URL: url}, Logger: f.log.Named("state")})
	if err != nil {
		return serverError("redis-url", err, state.ErrUnreachable)
	}
	f.state = st
	f.deferClose("state", st.Close)
	return nil
}

func (f *feed) openStream(ctx context.Context) error {
	cfg := stream.DefaultConfig()
	cfg.URL = f.o.NATSURL
	if cfg.URL == "" {
		nats, err := devserver.StartNATS(devserver.NATSOptions{Dir: f.data.file("nats"), SyncAlways: true})
		if err != nil {
			return fmt.Errorf("start the embedded NATS: %w", err)
		}
		f.deferClose("nats", func() error { nats.Close(); return nil })
		cfg.URL, cfg.Profile = nats.URL(), stream.Dev
	}
	f.natsURL = addressOf(cfg.URL)
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "ledgerfeed dev", Logger: f.log.Named("stream"), Registerer: f.registry})
	if err != nil {
		return serverError("nats-url", err, stream.ErrUnreachable)
	}
	f.stream = conn
	f.deferClose("stream", func() error { conn.Close(); return nil })
	if err := conn.EnsureTopology(ctx); err != nil {
		return fmt.Errorf("create the streams: %w", err)
	}
	f.deadBefore, err = f.newestDead(ctx)
	return err
}

// serverError is an error about a server that a flag names.
func serverError(flag string, err, unreachable error) error {
	err = fmt.Errorf("--%s: %w", flag, err)
	if errors.Is(err, unreachable) {
		return &codedError{error: err, code: lifecycle.ExitUnreachable}
	}
	return err
}

type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }
func (e *codedError) ExitCode() int { return e.code }

// addressOf leaves user and password out of a URL.
func addressOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "?"
	}
	u.User = nil
	return u.String()
}
