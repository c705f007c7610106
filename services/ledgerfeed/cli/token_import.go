package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/backend"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/tokenimport"
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
	return errors.Join(c.Redis.Validate(), c.QBO.Validate(), c.Connection.Validate(), backend.CheckKeys(c.QBO, c.Connection))
}

type tokenCmd struct {
	Import  importCmd       `cmd:"" help:"Connect companies with refresh tokens from another program."`
	Status  tokenStatusCmd  `cmd:"" help:"Show authorisation deadlines and encryption keys."`
	Refresh tokenRefreshCmd `cmd:"" help:"Refresh the tokens of companies now."`
	Rotate  tokenRotateCmd  `cmd:"" help:"Re-encrypt all stored tokens with the first key."`
	Revoke  tokenRevokeCmd  `cmd:"" help:"Revoke tokens at Intuit and park the companies."`
}

type importCmd struct {
	Realm            string `placeholder:"ID" xor:"what" help:"Company id (realmId), to import one company."`
	RefreshTokenFile string `default:"-" placeholder:"FILE" help:"File with its refresh token; - reads stdin (${default})."`
	File             string `placeholder:"FILE" xor:"what" help:"CSV or JSON lines file with many companies; - reads stdin."`
	App              string `default:"production" placeholder:"NAME" help:"App, as in ingress.apps, for lines that name none (${default})."`
	Parallel         int    `default:"4" placeholder:"N" help:"Number of parallel imports (${default})."`
	Done             string `placeholder:"FILE" help:"Progress file, to resume an import (<file>.done)."`
	Rescue           string `default:"ledgerfeed-rescued-tokens.jsonl" placeholder:"FILE" help:"File for new tokens that cannot be stored; the next import starts with them (${default})."`
	JSON             bool   `help:"Print one JSON object per company."`
	consent          `embed:""`
}

// Help is the long help of the command.
func (importCmd) Help() string {
	return `Refreshes each token once, which proves it and voids the copy that the other program holds after a day at most,
stores it encrypted in Redis, and makes the company due for its initial load. The settings are the services' own:
LEDGERFEED_REDIS_URL, LEDGERFEED_CONNECTION_KEYS, LEDGERFEED_QBO_CLIENT_ID, LEDGERFEED_QBO_CLIENT_SECRET. A company
that is connected already is connected anew, unless Intuit does not take the token any more.

A --file has a company a line, realm,refresh_token[,app] or {"realm": "…", "refresh_token": "…"}. A line that
cannot be used is named and holds up no other. Interrupted or killed, run it again: what is imported is left out.
Exits 0 if all were imported, 1 if some were not.

Examples:
  ledgerfeed token import --realm 9341453000000001 --refresh-token-file token.txt
  pass show quickbooks/refresh | ledgerfeed token import --realm 9341453000000001 --yes
  ledgerfeed token import --file companies.csv --dry-run
  ledgerfeed token import --file companies.csv --yes`
}

var realmID = regexp.MustCompile(`^[0-9]{1,32}$`)

// lines are the companies that are meant.
func (c *importCmd) lines(p process) ([]tokenimport.Line, error) {
	if c.File == "" {
		return c.single(p)
	}
	text, err := body(c.File, p.stdin)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	lines, err := tokenimport.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("--file %s: %w", c.File, err))
	}
	if len(lines) == 0 {
		return nil, lifecycle.Usage(fmt.Errorf("--file %s: it is empty", c.File))
	}
	if c.Done == "" && c.File != "-" {
		c.Done = c.File + ".done"
	}
	return lines, nil
}

func (c *importCmd) single(p process) ([]tokenimport.Line, error) {
	if c.Realm == "" {
		return nil, lifecycle.Usage(errors.New("say which companies: --realm ID, or --file FILE"))
	}
	if err := validRealms("--realm", c.Realm); err != nil {
		return nil, err
	}
	text, err := body(c.RefreshTokenFile, p.stdin)
	if err != nil {
		return nil, fmt.Errorf("--refresh-token-file: %w", err)
	}
	refresh := secret.String(strings.TrimSpace(string(text)))
	if refresh == "" {
		return nil, lifecycle.Usage(fmt.Errorf("--refresh-token-file %s: it is empty", c.RefreshTokenFile))
	}
	return []tokenimport.Line{{N: 1, Realm: c.Realm, Refresh: refresh}}, nil
}

// Run imports.
func (c *importCmd) Run(ctx context.Context, p process) error {
	if c.Parallel < 1 || c.Parallel > 64 {
		return lifecycle.Usage(fmt.Errorf("--parallel %d: give a number from 1 to 64", c.Parallel))
	}
	lines, err := c.lines(p)
	if err != nil {
		return err
	}
	lines, rescued, err := tokenimport.WithRescued(lines, c.Rescue)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("--rescue %s: %w", c.Rescue, cause(err)))
	}
	if len(rescued) > 0 {
		fmt.Fprintf(p.stderr, "%d tokens come from %s\n", len(rescued), c.Rescue)
	}
	if c.DryRun {
		return c.dryRun(p, lines)
	}
	if err := c.possible(p); err != nil {
		return err
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := c.ask(ctx, p, fmt.Sprintf("take over the tokens of %d companies?", len(lines))); err != nil {
		return err
	}
	var done *tokenimport.Done
	if c.Done != "" {
		if done, err = tokenimport.OpenDone(c.Done); err != nil {
			return lifecycle.Usage(fmt.Errorf("--done %s: %w", c.Done, cause(err)))
		}
		defer func() { _ = done.Close() }() // each line was written at once
	}
	run := importing{c: c, p: p, servers: s, rescued: rescued, counts: map[tokenimport.Outcome]int{}}
	if c.File != "" {
		run.bar = newProgress(p.stderr, len(lines), "imported")
	}
	err = tokenimport.Run(ctx, lines, tokenimport.Options{
		Connections: s.connections, App: c.App, Parallel: c.Parallel, Done: done,
		Report: func(res tokenimport.Result) error { return run.report(ctx, res) },
	})
	return run.end(ctx, len(lines), err)
}

func (c *importCmd) dryRun(p process, lines []tokenimport.Line) error {
	done, err := tokenimport.ReadDone(c.Done)
	if c.Done == "" {
		done, err = nil, nil
	}
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("--done %s: %w", c.Done, cause(err)))
	}
	good, skipped, bad := 0, 0, 0
	for _, l := range lines {
		switch {
		case l.Err != nil:
			bad++
			fmt.Fprintf(p.stderr, "line %d: %s\n", l.N, l.Err)
		case done.Has(l):
			skipped++
		default:
			good++
		}
	}
	fmt.Fprintf(p.stdout, "would import %d companies; %d are imported already\n", good, skipped)
	if bad > 0 {
		return fmt.Errorf("%d lines cannot be used", bad)
	}
	return nil
}

// importResult is what became of one company, in JSON.
type importResult struct {
	Line    int                 `json:"line,omitempty"`
	Realm   string              `json:"realm"`
	App     string              `json:"app"`
	Outcome tokenimport.Outcome `json:"outcome"`
	Error   string              `json:"error,omitempty"`
	// Rescued is the file the new token is in.
	Rescued string `json:"rescued,omitempty"`
}
