package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

type tokenRefreshCmd struct {
	realmChoice `embed:""`
}

// Help is the long help of the command.
func (tokenRefreshCmd) Help() string {
	return `Gets new tokens for companies now, which moves the end of their authorisation to 100 days from now. The services
do that by themselves for every company they read; it is for one that is parked, and to see whether Intuit still
takes a token. A token that Intuit refused before is tried again: if Intuit takes it, the company is live and due for
a scan.

Examples:
  ledgerfeed token refresh 9341453000000001 --yes`
}

// Run refreshes.
func (c *tokenRefreshCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "refresh the token of", done: "refreshed", do: func(ctx context.Context, s *servers, id string) (string, error) {
		return "", s.connections.Refresh(ctx, id)
	}})
}

type tokenRevokeCmd struct {
	realmChoice `embed:""`
}

// Help is the long help of the command.
func (tokenRevokeCmd) Help() string {
	return `Revokes the tokens of companies at Intuit, because they may be known to somebody. The companies are parked until
they are connected anew; cursors and marks stay. To end a connection for good: ledgerfeed realm disconnect.

Examples:
  ledgerfeed token revoke 9341453000000001`
}

// Run revokes.
func (c *tokenRevokeCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "revoke the token of", done: "revoked", do: func(ctx context.Context, s *servers, id string) (string, error) {
		conn, err := s.connections.Get(ctx, id)
		if err != nil {
			return "", err
		}
		if conn.State == connection.Disconnected {
			return "", errors.New("it is disconnected: there is no token")
		}
		confirmed, err := s.connections.Revoke(ctx, id, connection.ReauthRequired, "its token was revoked by request", s.oauth)
		if err != nil {
			return "", fmt.Errorf("%w; nothing has changed, run it again", err)
		}
		return unconfirmedNote(confirmed), nil
	}})
}
