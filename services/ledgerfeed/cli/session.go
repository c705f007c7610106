package cli

import (
	"context"
	"fmt"
)

type sessionCmd struct {
	End sessionEndCmd `cmd:"" help:"End all console sessions."`
}

type sessionEndCmd struct {
	redisFlags `embed:""`
	consent    `embed:""`
}

// Help is the long help of the command.
func (sessionEndCmd) Help() string {
	return `Ends all sessions of the console at once: after a lost device, or when somebody leaves. People log in again; a
token that was given away must be replaced as well (console.token, console.viewer_token).

Examples:
  ledgerfeed session end
  ledgerfeed session end --yes`
}

// Run ends them.
func (c *sessionEndCmd) Run(ctx context.Context, p process) error {
	if err := c.possible(p); err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if c.DryRun {
		_, err := fmt.Fprintln(p.stdout, "would end all sessions of the console")
		return err
	}
	if err := c.ask(ctx, p, "end all sessions of the console?"); err != nil {
		return err
	}
	if err := store.EndSessions(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, "ended all sessions of the console")
	return err
}
