package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// ServerConfig is what the commands that work on a running feed read from the
// environment: the same variables as the services.
type ServerConfig struct {
	Redis      state.Config      `koanf:"redis"`
	QBO        qbo.Config        `koanf:"qbo"`
	Connection connection.Config `koanf:"connection"`
}

// DefaultServerConfig is the services' default.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{Redis: state.DefaultConfig(), QBO: qbo.DefaultConfig()}
}

// Validate names every setting that cannot be used.
func (c ServerConfig) Validate() error {
	return errors.Join(c.Redis.Validate(), c.QBO.Validate(), c.Connection.Validate())
}

type tokenCmd struct {
	Import importCmd `cmd:"" help:"Connect a company with a refresh token that another program got."`
}

type importCmd struct {
	Realm            string `required:"" placeholder:"ID" help:"Company id (realmId)."`
	RefreshTokenFile string `default:"-" placeholder:"FILE" help:"File that holds the refresh token; - reads stdin (${default})."`
	App              string `default:"production" placeholder:"NAME" help:"Name of the app, as in ingress.apps (${default})."`
}

// Help is the long help of the command.
func (importCmd) Help() string {
	return `Refreshes the token once, which proves it and voids the copy that the other program holds after a day at
most, stores it encrypted in Redis, and makes the company due for its initial load. The settings are the
services' own: LEDGERFEED_REDIS_URL, LEDGERFEED_CONNECTION_KEYS, LEDGERFEED_QBO_CLIENT_ID,
LEDGERFEED_QBO_CLIENT_SECRET. A company that is connected already is connected anew.

Examples:
  ledgerfeed token import --realm 9341453000000001 --refresh-token-file token.txt
  pass show quickbooks/refresh | ledgerfeed token import --realm 9341453000000001`
}

var realmID = regexp.MustCompile(`^[0-9]{1,32}$`)

// Run connects the realm.
func (c *importCmd) Run(ctx context.Context, p process) error {
	if !realmID.MatchString(c.Realm) {
		return lifecycle.Usage(fmt.Errorf("--realm %q: give the company id, digits only, as Intuit's redirect names it (realmId)", c.Realm))
	}
	text, err := body(c.RefreshTokenFile, p.stdin)
	if err != nil {
		return fmt.Errorf("--refresh-token-file: %w", err)
	}
	refresh := secret.String(strings.TrimSpace(string(text)))
	if refresh == "" {
		return lifecycle.Usage(fmt.Errorf("--refresh-token-file %s: it is empty", c.RefreshTokenFile))
	}
	cfg := DefaultServerConfig()
	if err := config.Load(&cfg, "", os.Environ()); err != nil {
		return err
	}
	oauth, err := cfg.QBO.OAuth()
	if err != nil {
		return lifecycle.Usage(err)
	}
	store, err := state.Open(ctx, state.Options{Config: cfg.Redis})
	if err != nil {
		if errors.Is(err, state.ErrUnreachable) {
			return lifecycle.Unreachable("", err)
		}
		return err
	}
	defer func() { _ = store.Close() }()
	connections, err := connection.New(connection.Options{State: store, Config: cfg.Connection, Refresher: oauth})
	if err != nil {
		return lifecycle.Usage(err)
	}
	token, err := oauth.Refresh(ctx, refresh)
	if errors.Is(err, qbo.ErrInvalidGrant) {
		return fmt.Errorf("realm %s: %w: this refresh token does not hold (any more) for this app: take the newest one, or let the user connect again", c.Realm, err)
	}
	if err != nil {
		return fmt.Errorf("realm %s: refresh the token: %w", c.Realm, err)
	}
	if err := connections.Connect(ctx, c.Realm, c.App, token); err != nil {
		return fmt.Errorf("realm %s: store the token: %w", c.Realm, err)
	}
	if err := store.Schedule(ctx, c.Realm, time.Now()); err != nil {
		return fmt.Errorf("realm %s is connected, but not due yet: %w", c.Realm, err)
	}
	_, err = fmt.Fprintf(p.stdout, "realm %s is connected to the app %s and due for its initial load\n", c.Realm, c.App)
	return err
}
