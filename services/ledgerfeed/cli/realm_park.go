package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

// realmChoice are the flags of what changes companies.
type realmChoice struct {
	Realm   []string `arg:"" help:"Company ids (realmId)."`
	consent `embed:""`
	JSON    bool `help:"Print one JSON object per company."`
}

// realmAction is what is done to each company.
type realmAction struct {
	verb, done string
	// do returns what a person should know although it is done; "" is nothing.
	do func(ctx context.Context, s *servers, realm string) (note string, err error)
}

// realmOutcome is what became of one, in JSON.
type realmOutcome struct {
	Realm   string `json:"realm"`
	Company string `json:"company,omitempty"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
	// Note is what a person should know although it is done.
	Note string `json:"note,omitempty"`
}

func (c *realmChoice) run(ctx context.Context, p process, a realmAction) error {
	if err := validRealms("realm", c.Realm...); err != nil {
		return err
	}
	if err := c.possible(p); err != nil {
		return err
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := c.ask(ctx, p, fmt.Sprintf("%s %d companies?", a.verb, len(c.Realm))); err != nil {
		return err
	}
	names, err := s.store.CompanyNames(ctx, c.Realm)
	if err != nil {
		return away(ctx, s, err)
	}
	failed := 0
	for _, id := range c.Realm {
		err := c.one(ctx, p, s, a, id, names)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted at realm %s: run it again: %w", id, ctx.Err())
		}
		if err != nil {
			failed++
		}
	}
	if failed > 0 {
		return away(ctx, s, fmt.Errorf("%d of %d companies are as they were", failed, len(c.Realm)))
	}
	return nil
}

// one does it to a company and says what became of it.
func (c *realmChoice) one(ctx context.Context, p process, s *servers, a realmAction, id string, names companies) error {
	out := realmOutcome{Realm: id, Company: names[id], Outcome: a.done}
	_, err := s.connections.Get(ctx, id)
	if errors.Is(err, connection.ErrNotConnected) {
		err = errors.New("it was never connected")
	} else {
		err = nil // one whose token does not open can be dealt with all the same
	}
	if c.DryRun {
		out.Outcome = "would " + a.verb
	} else if err == nil {
		out.Note, err = a.do(ctx, s, id)
	}
	if err != nil {
		out.Outcome, out.Error = "failed", err.Error()
	}
	switch {
	case c.JSON:
		return errors.Join(err, json.NewEncoder(p.stdout).Encode(out))
	case err != nil:
		fmt.Fprintf(p.stderr, "realm %s: %s\n", names.named(id), plain(err.Error()))
	case c.DryRun:
		fmt.Fprintf(p.stdout, "would %s realm %s\n", a.verb, names.named(id))
	default:
		fmt.Fprintf(p.stdout, "realm %s is %s\n", names.named(id), a.done)
		if out.Note != "" {
			fmt.Fprintf(p.stdout, "  %s\n", plain(out.Note))
		}
	}
	return err
}

type realmParkCmd struct {
	realmChoice `embed:""`
	Reason      string `default:"parked by request" placeholder:"TEXT" help:"Reason to record (${default})."`
}

// Help is the long help of the command.
func (realmParkCmd) Help() string {
	return `Puts companies aside: their webhooks are taken and let go, they are not scanned, and no call is made for them.
Tokens and cursors wait; what changes meanwhile is found by the scan after the unpark, deletions for up to 30
days by asking, older ones by comparing all ids. A token that is not refreshed for 100 days lapses: refresh those
of companies that are parked for long (ledgerfeed token refresh).

Examples:
  ledgerfeed realm park 9341453000000001 --reason "invoice unpaid"
  ledgerfeed realm park 9341453000000001 9341453000000002 --dry-run`
}

// Run parks.
func (c *realmParkCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "park", done: "parked", do: func(ctx context.Context, s *servers, id string) (string, error) {
		conn, err := s.connections.Get(ctx, id)
		if conn.State == connection.Disconnected || conn.State == connection.ReauthRequired || conn.State == connection.Pending {
			return "", fmt.Errorf("it is %s: nothing is read of it as it is", conn.State)
		}
		if err != nil {
			return "", err
		}
		return "", s.connections.SetState(ctx, id, connection.Parked, c.Reason)
	}})
}

type realmUnparkCmd struct {
	realmChoice `embed:""`
}

// Help is the long help of the command.
func (realmUnparkCmd) Help() string {
	return `Puts companies back that were put aside or that Intuit refuses, and makes them due for a scan at once. One that Intuit
goes on to refuse is put aside again within minutes. If Intuit refused the token of one it is tried again now; where
Intuit still refuses it, have the company connected anew.

Examples:
  ledgerfeed realm unpark 9341453000000001`
}

// Run puts back.
func (c *realmUnparkCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "unpark", done: "live", do: func(ctx context.Context, s *servers, id string) (string, error) {
		return "", unpark(ctx, s, id)
	}})
}

func unpark(ctx context.Context, s *servers, id string) error {
	conn, err := s.connections.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case conn.State == connection.Disconnected:
		return errors.New("it is disconnected: have it connected anew")
	case conn.State == connection.Pending:
		return errors.New("its consent waits for approval: ledgerfeed realm approve")
	case conn.State == connection.ReauthRequired || conn.Refusal != nil:
		// Intuit may take the token by now.
		if err := s.connections.Refresh(ctx, id); err != nil {
			return fmt.Errorf("have it connected anew: %w", err)
		}
	}
	if err := s.connections.SetState(ctx, id, connection.Live, ""); err != nil {
		return err
	}
	s.connections.ScanSoon(ctx, id)
	return nil
}

type realmDisconnectCmd struct {
	realmChoice `embed:""`
	Forget      bool `help:"Delete the tokens even if Intuit does not answer; the owner must then disconnect the app in QuickBooks."`
}

// Help is the long help of the command.
func (realmDisconnectCmd) Help() string {
	return `Revokes the authorisation of companies at Intuit, then forgets their tokens. Cursors and marks stay: a company
that is connected again goes on from there, and nothing is delivered twice. If Intuit does not answer nothing is
forgotten; run it again. If Intuit knows none of the tokens (400) they are forgotten, and the note says that the
authorisation may still be active and how its owner ends it.

Examples:
  ledgerfeed realm disconnect 9341453000000001
  ledgerfeed realm disconnect 9341453000000001 --forget --yes`
}

// Run disconnects.
func (c *realmDisconnectCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, realmAction{verb: "disconnect", done: "disconnected", do: func(ctx context.Context, s *servers, id string) (string, error) {
		if c.Forget {
			return "the authorisation may still be active at Intuit: " + connection.OwnerEnds, s.connections.Disconnect(ctx, id)
		}
		confirmed, err := s.connections.Revoke(ctx, id, connection.Disconnected, "disconnected by request", s.oauth)
		return unconfirmedNote(confirmed), err
	}})
}

// unconfirmedNote is for a revocation that Intuit did not confirm.
func unconfirmedNote(confirmed bool) string {
	if confirmed {
		return ""
	}
	return "Intuit knows none of its tokens (400): the authorisation may still be active; " + connection.OwnerEnds
}
