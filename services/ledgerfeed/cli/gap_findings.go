package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
)

type gapFindingsCmd struct {
	redisFlags `embed:""`
	JSON       bool `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (gapFindingsCmd) Help() string {
	return `Says what is wrong with the webhooks, the worst first, each in a sentence with what to do: kinds of changes that
never come or come no more, in any company; companies that changed and were not told of; coverage that fell;
webhooks that are slow. Each says on how many changes it rests; where there are few, it is silent.

Exits 0 whether or not something was found.

Examples:
  ledgerfeed gap findings
  ledgerfeed gap findings --json | jq -r 'select(.severity == "error") | .text'`
}

// Run prints what is wrong.
func (c *gapFindingsCmd) Run(ctx context.Context, p process) error {
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	found, err := diagnosis.Look(ctx, store, time.Now())
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, found)
	}
	if len(found) == 0 {
		fmt.Fprintln(p.stderr, "no findings")
		return nil
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(p.stdout, "%s: %s\n  %s\n", f.Severity, plain(f.Text), plain(f.Advice)); err != nil {
			return err
		}
	}
	return nil
}
