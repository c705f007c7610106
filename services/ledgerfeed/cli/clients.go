package cli

import (
	"context"
	"errors"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// servers are those of a running feed, as its services reach them.
type servers struct {
	store       *state.Store
	broker      *stream.Conn
	connections *connection.Store
	budget      *state.Budget
	limiter     *state.Limiter
	oauth       *qbo.OAuth
	client      *qbo.Client
	config      ServerConfig
}

// openServers opens all of them as the environment says. Close them.
func openServers(ctx context.Context, p process) (*servers, error) {
	cfg := DefaultReplayConfig()
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return nil, err
	}
	s := &servers{}
	if err := s.open(ctx, p, cfg); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

func (s *servers) open(ctx context.Context, p process, cfg ReplayConfig) error {
	if err := s.openConnections(ctx, p, cfg.ServerConfig); err != nil {
		return err
	}
	var err error
	if s.broker, err = dial(ctx, p, cfg.NATS); err != nil {
		return err
	}
	s.client, err = cfg.QBO.Client(s.connections, s.limiter, s.budget.Observe)
	return lifecycle.Usage(err)
}

// openConnections opens all but the broker and the client.
func (s *servers) openConnections(ctx context.Context, p process, cfg ServerConfig) error {
	s.config = cfg
	log, err := p.logger()
	if err != nil {
		return err
	}
	s.store, err = state.Open(ctx, state.Options{Config: cfg.Redis, Logger: log.Named("redis")})
	if errors.Is(err, state.ErrUnreachable) {
		return lifecycle.Unreachable("", err)
	}
	if err != nil {
		return err
	}
	if s.oauth, err = cfg.QBO.OAuth(); err != nil {
		return lifecycle.Usage(err)
	}
	s.connections, err = connection.New(connection.Options{
		State: s.store, Config: cfg.Connection, Refresher: s.oauth, Logger: log.Named("connection"),
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	s.budget = s.store.Budget(cfg.QBO.MonthlyCalls)
	s.limiter = s.store.Limiter(state.DefaultLimits()).Within(s.budget)
	return nil
}

func (s *servers) close(ctx context.Context) {
	if s.budget != nil {
		// Tells the services of our calls; without Redis they miss a few.
		_, _ = s.budget.Usage(context.WithoutCancel(ctx))
	}
	if s.broker != nil {
		s.broker.Close()
	}
	if s.store != nil {
		_ = s.store.Close()
	}
}
