package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	actions "github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

type actionsCmd struct {
	Ls     actionsLsCmd     `cmd:"" default:"withargs" help:"List operator actions, newest first."`
	Verify actionsVerifyCmd `cmd:"" help:"Verify that no entry was changed, removed or inserted."`
}

// trailFlags say where the trail is.
type trailFlags struct {
	brokerFlags `embed:""`
	redisFlags  `embed:""`
}

// open opens the broker, and Redis if it answers: it has what waits for the broker.
func (f trailFlags) servers() *trailServers {
	environ := f.environ(os.Environ())
	if f.RedisURL != "" {
		environ = append(without(environ, "LEDGERFEED_REDIS_URL"), "LEDGERFEED_REDIS_URL="+f.RedisURL)
	}
	return &trailServers{environ: environ}
}

type actionsLsCmd struct {
	trailFlags `embed:""`
	Limit      int    `default:"50" placeholder:"N" help:"List the newest N (${default}; 0 = all)."`
	Who        string `placeholder:"TEXT" help:"Filter by actor, as a substring."`
	What       string `placeholder:"TEXT" help:"Filter by action, as a substring."`
	Since      moment `placeholder:"TIME" help:"Filter by time, from TIME on: 2026-11-20, 2026-11-20T15:04:05Z, or 36h or 7d ago."`
	JSON       bool   `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (actionsLsCmd) Help() string {
	return `Lists what people did to the feed, by the console, its API, the command line and the OAuth flow; logins and refused
requests, too. What one sender was refused again and again is one entry with a count. Entries of a version that kept
them in Redis come last.

The stream LF_ACTIONS has them, for nats.actions_max_age. Entries that wait in Redis, because NATS was away, are
stored first.

Examples:
  ledgerfeed actions
  ledgerfeed actions --since 7d --who alice
  ledgerfeed actions ls --limit 0 --json | jq -r 'select(.outcome | startswith("refused")) | .from' | sort | uniq -c`
}

const actionPage = 200

// Run lists.
func (c *actionsLsCmd) Run(ctx context.Context, p process) error {
	if c.Limit < 0 {
		return lifecycle.Usage(fmt.Errorf("--limit %d: give a number of entries, or 0 for all", c.Limit))
	}
	s := c.servers()
	s.p = p
	defer s.close()
	conn, store, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	shown, err := c.newest(ctx, conn, store)
	if err != nil {
		return err
	}
	if c.JSON {
		for _, e := range shown {
			err = errors.Join(err, json.NewEncoder(p.stdout).Encode(e))
		}
		return err
	}
	if len(shown) == 0 {
		fmt.Fprintln(p.stderr, "no actions")
		return nil
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AT\tWHO\tVIA\tFROM\tWHAT\tON\tOUTCOME")
	for _, e := range shown {
		outcome := e.Outcome
		if e.Count > 1 {
			outcome += fmt.Sprintf(" (%d times)", e.Count)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", stamp(e.At), plain(e.Who), orDash(e.Via), orDash(plain(e.From)), plain(e.What), orDash(plain(e.On)), plain(outcome))
	}
	return t.Flush()
}

// open opens the broker, stores what waits in Redis, and returns both; the store is nil
// if Redis does not answer.
func (t *trailServers) open(ctx context.Context, p process) (*stream.Conn, *state.Store, error) {
	conn, err := t.stream(ctx)
	if err != nil {
		return nil, nil, err
	}
	store, err := t.state(ctx)
	if err != nil {
		fmt.Fprintf(p.stderr, "what waits in Redis is not shown: %v\n", err)
		return conn, nil, nil
	}
	trail := actions.New(actions.Options{Stream: t.stream, State: t.state})
	if err := trail.Drain(ctx); err != nil {
		fmt.Fprintf(p.stderr, "what waits in Redis is not stored yet: %v\n", err)
	}
	return conn, store, nil
}

func (c *actionsLsCmd) newest(ctx context.Context, conn *stream.Conn, store *state.Store) (shown []actions.Stored, err error) {
	for skip := 0; ; skip += actionPage {
		page, err := actions.Newest(ctx, conn, store, skip, actionPage)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if c.match(e) {
				shown = append(shown, e)
			}
			if c.Limit > 0 && len(shown) == c.Limit {
				return shown, nil
			}
		}
		if len(page) < actionPage {
			return shown, nil
		}
	}
}

func (c *actionsLsCmd) match(e actions.Stored) bool {
	return strings.Contains(e.Who, c.Who) && strings.Contains(e.What, c.What) && !e.At.Before(c.Since.time())
}

type actionsVerifyCmd struct {
	trailFlags `embed:""`
	Hash       []string `placeholder:"HASH" help:"Require an entry with this hash from an earlier run (repeatable)."`
	JSON       bool     `help:"Print the result as one JSON object."`
}

// Help is the long help of the command.
func (actionsVerifyCmd) Help() string {
	return `Reads the whole trail. Each entry holds the hash of the one before: an entry that was changed, left out or put in
between breaks the chain, and is named. Entries older than nats.actions_max_age are gone; the chain begins behind them.

Who owns the broker can replace the whole stream by another that is a chain, too. Keep the hash that this command
prints elsewhere, and give it with --hash the next time.

Exits 0 if the chain is whole, 1 if it is not.

Examples:
  ledgerfeed actions verify
  ledgerfeed actions verify --hash 5d0c3d…`
}

// Run verifies.
func (c *actionsVerifyCmd) Run(ctx context.Context, p process) error {
	s := c.servers()
	s.p = p
	defer s.close()
	conn, _, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	chain, err := actions.Verify(ctx, conn, c.Hash...)
	if err != nil {
		return fmt.Errorf("the trail is not what was written: %w", err)
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(chain)
	}
	if chain.Entries == 0 {
		_, err := fmt.Fprintln(p.stdout, "no actions")
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%d entries from %s to %s, each follows the one before\nhash %s\n",
		chain.Entries, chain.From.UTC().Format(time.RFC3339), chain.To.UTC().Format(time.RFC3339), chain.Hash)
	return err
}
