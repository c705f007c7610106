package dev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// SimOptions says how to run the simulated QuickBooks alone, beside services
// that run elsewhere. Of Options it uses what is about the books, the webhooks,
// the data directory and the output.
type SimOptions struct {
	Options
	// WebhookURL is the ingress's endpoint.
	WebhookURL string
	// Redis and Keys are the services' own: each realm is connected there as if
	// its user had consented. Without them nobody is connected, and QuickBooks
	// sends no webhooks.
	Redis       secret.String
	RedisCAFile string
	Keys        []secret.String
	App         string
}

// RunSimulator serves the simulated QuickBooks until ctx ends.
func RunSimulator(ctx context.Context, o SimOptions) error {
	o.Options = o.on(devserver.Loopback())
	term := newTerminal(o.Stdout)
	log, err := telemetry.NewLogger(o.Log, o.Stderr)
	if err != nil {
		return lifecycle.Usage(err)
	}
	group := lifecycle.Group{Logger: log.Named("group"), StopTimeout: stopTimeout}
	if err := wireSimulator(ctx, o, &group, term, log); err != nil {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		return errors.Join(err, group.Run(ended))
	}
	return group.Run(ctx)
}

// wireSimulator opens every part, top to bottom, and leaves the running to group.
func wireSimulator(ctx context.Context, o SimOptions, group *lifecycle.Group, term *terminal, log *zap.Logger) error {
	data, err := openDataDir(o.DataDir)
	if err != nil {
		return err
	}
	group.Defer("data directory", func(context.Context) error { return data.Close() })
	realms, err := data.realmIDs(o.Realms)
	if err != nil {
		return err
	}
	sim, err := startSimulator(ctx, o.Options, data, log)
	if err != nil {
		return err
	}
	group.Defer("quickbooks", sim.Shutdown)
	founded, err := sim.found(realms)
	if err != nil {
		return err
	}
	if o.Redis != "" {
		if err := connectElsewhere(ctx, o, sim, realms, founded, log); err != nil {
			return err
		}
	}
	sim.SetWebhookURL(o.WebhookURL)
	load := newLoad(sim.Sim, realms, o.Rate, o.Seed)
	group.Go("webhooks", sim.Run)
	group.Go("load", func(ctx context.Context) error { return untilEnd(ctx, load.Run(ctx, 0)) })
	group.Go("status", func(ctx context.Context) error {
		tick := time.NewTicker(plainEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				stats := sim.Stats()
				term.Printf("changes %d · webhook events %d · failed webhooks %d · calls %d",
					load.made.Load(), stats.WebhookEvents, stats.WebhookFailures, stats.Calls)
			}
		}
	})
	term.Printf("quickbooks  %s (simulated; faults and books under %s/sim/)", sim.url, sim.url)
	term.Printf("webhooks    %s", o.WebhookURL)
	term.Printf("data        %s (realms %s … %s)", data.path, realms[0], realms[len(realms)-1])
	return nil
}

// connectElsewhere connects the realms in the services' Redis.
func connectElsewhere(ctx context.Context, o SimOptions, sim *simulator, realms []string, founded map[string]bool, log *zap.Logger) error {
	store, err := state.Open(ctx, state.Options{Config: state.Config{URL: o.Redis, CAFile: o.RedisCAFile}, Logger: log.Named("state")})
	if err != nil {
		return serverError("redis-url", err, state.ErrUnreachable)
	}
	defer func() { _ = store.Close() }()
	oauth, err := sim.oauth()
	if err != nil {
		return err
	}
	connections, err := connection.New(connection.Options{
		State: store, Config: connection.Config{Keys: o.Keys}, Refresher: oauth, Logger: log.Named("connection"),
	})
	if err != nil {
		return lifecycle.Usage(err)
	}
	return sim.connect(ctx, connections, oauth, o.App, realms, founded)
}

// oauth is the app as the simulator knows it.
func (s *simulator) oauth() (*qbo.OAuth, error) { return s.oauthAt(redirectURL) }

// oauthAt is the same for a flow that comes back to redirect.
func (s *simulator) oauthAt(redirect string) (*qbo.OAuth, error) {
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{
		ClientID: clientID, ClientSecret: clientSecret, RedirectURL: redirect,
		AuthorizeURL: s.url + "/connect/oauth2",
		TokenURL:     s.url + "/oauth2/v1/tokens/bearer",
		RevokeURL:    s.url + "/v2/oauth2/tokens/revoke",
	})
	if err != nil {
		return nil, fmt.Errorf("build the OAuth client: %w", err)
	}
	return oauth, nil
}

// connect takes every realm that is not connected yet through the OAuth code
// exchange, as if its user had consented just now.
func (s *simulator) connect(ctx context.Context, connections *connection.Store, oauth *qbo.OAuth, app string, realms []string, founded map[string]bool) error {
	for _, realm := range realms {
		c, err := connections.Get(ctx, realm)
		if err == nil && c.State == connection.Live && !founded[realm] {
			continue
		}
		if err != nil && !errors.Is(err, connection.ErrNotConnected) {
			return fmt.Errorf("look up the connection of realm %s: %w", realm, err)
		}
		token, err := oauth.Exchange(ctx, s.Authorize(realm), "")
		if err != nil {
			return fmt.Errorf("connect realm %s: %w", realm, err)
		}
		if err := connections.Connect(ctx, realm, app, token); err != nil {
			return fmt.Errorf("connect realm %s: %w", realm, err)
		}
	}
	return nil
}

// untilEnd takes the end of ctx for a good one.
func untilEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}
