package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// tokenView is what may be shown of the tokens of a company.
type tokenView struct {
	Generation     int64     `json:"generation"`
	Key            string    `json:"key,omitempty"`
	PreviousKey    string    `json:"previous_key,omitempty"`
	AccessExpires  time.Time `json:"access_expires,omitzero"`
	RefreshExpires time.Time `json:"refresh_expires,omitzero"`
	HardExpires    time.Time `json:"hard_expires,omitzero"`
	Error          string    `json:"error,omitempty"`
	// ClientID is the client id that the tokens were issued to, if that was noted.
	ClientID  string       `json:"client_id,omitempty"`
	HeldUntil time.Time    `json:"held_until,omitzero"`
	Refusal   *refusalView `json:"refusal,omitempty"`
	// RefreshRefusal is another answer of the token endpoint that gave no token.
	RefreshRefusal *refusalView `json:"refresh_refusal,omitempty"`
}

// refusalView is Intuit's answer that it does not take the refresh token.
type refusalView struct {
	Description string    `json:"description"`
	TID         string    `json:"intuit_tid,omitempty"`
	At          time.Time `json:"at"`
	Times       int       `json:"times"`
	NextTry     time.Time `json:"next_try"`
}

func refusalViewOf(r *connection.Refusal) *refusalView {
	if r == nil {
		return nil
	}
	return &refusalView{Description: r.Description, TID: r.TID, At: r.At, Times: r.Count, NextTry: r.Next}
}

func refreshRefusalViewOf(r *connection.RefreshRefusal) *refusalView {
	if r == nil {
		return nil
	}
	return &refusalView{Description: r.Message, TID: r.TID, At: r.At, Times: r.Count, NextTry: r.Next}
}

func tokenViewOf(l connection.Listed) tokenView {
	v := tokenView{
		Generation: l.Generation, Key: l.Key, PreviousKey: l.PreviousKey,
		AccessExpires: l.Token.AccessExpires, RefreshExpires: l.Token.RefreshExpires, HardExpires: l.Token.RefreshHardExpires,
		ClientID: l.ClientID, Refusal: refusalViewOf(l.Refusal),
		RefreshRefusal: refreshRefusalViewOf(l.RefreshRefusal),
	}
	if l.HeldUntil.After(time.Now()) {
		v.HeldUntil = l.HeldUntil
	}
	if l.Err != nil {
		v.Error = l.Err.Error()
	}
	return v
}

// left is how long the authorisation lasts, for a list.
func (v tokenView) left() string {
	switch {
	case v.Error != "":
		return "unreadable"
	case v.Key == "":
		return "-"
	}
	end := v.RefreshExpires
	if end.IsZero() || !v.HardExpires.IsZero() && v.HardExpires.Before(end) {
		end = v.HardExpires
	}
	if end.IsZero() {
		return "?"
	}
	return until(end)
}

// rows show it in full.
func (v tokenView) rows(w io.Writer) {
	if v.Error != "" {
		row(w, "token", plain(v.Error))
		return
	}
	if v.Key == "" {
		row(w, "token", "none")
		return
	}
	row(w, "token generation", v.Generation)
	row(w, "encrypted with key", v.Key)
	if v.ClientID != "" {
		row(w, "issued to client id", plain(v.ClientID))
	}
	if r := v.Refusal; r != nil {
		r.rows(w, "refused by Intuit", "invalid_grant "+r.Description)
	}
	if r := v.RefreshRefusal; r != nil {
		r.rows(w, "refresh failed", r.Description)
	}
	if !v.HeldUntil.IsZero() {
		row(w, "no calls until", stamp(v.HeldUntil)+": Intuit's API refuses tokens that were issued just before (401)")
	}
	row(w, "access token until", stamp(v.AccessExpires))
	row(w, "without a refresh until", stamp(v.RefreshExpires)+" ("+until(v.RefreshExpires)+")")
	row(w, "in any case until", stamp(v.HardExpires)+" ("+until(v.HardExpires)+")")
}

func (r *refusalView) rows(w io.Writer, what, answer string) {
	row(w, what, fmt.Sprintf("%s, %d times: %s", stamp(r.At), r.Times, plain(answer)))
	row(w, "  intuit_tid", orDash(plain(r.TID)))
	row(w, "  tried again", stamp(r.NextTry)+" ("+until(r.NextTry)+")")
}

type tokenStatusCmd struct {
	Realm  []string `arg:"" optional:"" help:"Company ids (realmId); a summary of all companies by default."`
	Within string   `default:"30d" placeholder:"TIME" help:"List companies whose authorisation expires within TIME, such as 30d or 36h (${default})."`
	Limit  int      `default:"20" placeholder:"N" help:"List at most N companies (${default})."`
	JSON   bool     `help:"Print one JSON object, or one per company."`
}

// Help is the long help of the command.
func (tokenStatusCmd) Help() string {
	return `Without ids: how many companies there are in each state, how many tokens each key encrypts, and whose
authorisation ends soon: 100 days after the last refresh, or five years after the consent. With ids: the
deadlines of each. No token is shown.

Examples:
  ledgerfeed token status
  ledgerfeed token status --within 90d --json | jq .hard
  ledgerfeed token status 9341453000000001`
}

// Run shows.
func (c *tokenStatusCmd) Run(ctx context.Context, p process) error {
	within, err := span(c.Within)
	if err != nil {
		return lifecycle.Usage(fmt.Errorf("--within: %w", err))
	}
	if c.Limit < 0 {
		return lifecycle.Usage(fmt.Errorf("--limit %d: give a number of companies", c.Limit))
	}
	if err := validRealms("realm", c.Realm...); err != nil {
		return err
	}
	s, err := openConnections(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if len(c.Realm) > 0 {
		return away(ctx, s, c.each(ctx, p, s))
	}
	return away(ctx, s, c.all(ctx, p, s, within))
}

func (c *tokenStatusCmd) each(ctx context.Context, p process, s *servers) error {
	for i, id := range c.Realm {
		l, err := s.connections.Listed(ctx, id)
		if errors.Is(err, connection.ErrNotConnected) {
			return fmt.Errorf("realm %s was never connected", id)
		}
		if err != nil {
			return err
		}
		names, err := s.store.CompanyNames(ctx, []string{id})
		if err != nil {
			return err
		}
		if c.JSON {
			out := struct {
				Realm   string           `json:"realm"`
				Company string           `json:"company,omitempty"`
				State   connection.State `json:"state"`
				tokenView
			}{id, names[id], l.State, tokenViewOf(l)}
			if err := json.NewEncoder(p.stdout).Encode(out); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		row(t, "realm", companies(names).named(id))
		row(t, "connection", l.State)
		tokenViewOf(l).rows(t)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// tokenSummary is the status of all, in JSON.
type tokenSummary struct {
	States   map[connection.State]int `json:"states"`
	Keys     connection.KeyUse        `json:"keys"`
	FirstKey string                   `json:"first_key"`
	Refresh  deadlines                `json:"refresh"`
	Hard     deadlines                `json:"hard"`
}

// deadlines are those of a kind that are near.
type deadlines struct {
	Before  time.Time      `json:"before"`
	Count   int            `json:"count"`
	Nearest []deadlineView `json:"nearest"`
}

type deadlineView struct {
	Realm   string    `json:"realm"`
	Company string    `json:"company,omitempty"`
	At      time.Time `json:"at"`
}

func (c *tokenStatusCmd) all(ctx context.Context, p process, s *servers, within time.Duration) error {
	sum := tokenSummary{FirstKey: s.connections.FirstKey()}
	var err error
	if sum.States, err = s.connections.Counts(ctx); err != nil {
		return err
	}
	if sum.Keys, err = s.connections.KeyUse(ctx); err != nil {
		return err
	}
	before := time.Now().UTC().Add(within).Truncate(time.Second)
	for kind, out := range map[connection.DeadlineKind]*deadlines{connection.RefreshDeadline: &sum.Refresh, connection.HardDeadline: &sum.Hard} {
		nearest, total, err := s.connections.Deadlines(ctx, kind, before, c.Limit)
		if err != nil {
			return err
		}
		names, err := companiesOf(ctx, s.store, nearest, func(d connection.Deadline) string { return d.RealmID })
		if err != nil {
			return err
		}
		*out = deadlines{Before: before, Count: total, Nearest: []deadlineView{}}
		for _, d := range nearest {
			out.Nearest = append(out.Nearest, deadlineView{d.RealmID, names[d.RealmID], d.At})
		}
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(sum)
	}
	return sum.print(p.stdout)
}

func (s tokenSummary) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, state := range connection.States() {
		row(t, string(state), s.States[state])
	}
	for _, key := range slices.Sorted(maps.Keys(s.Keys)) {
		note := ""
		if key == s.FirstKey {
			note = " (the first key)"
		}
		row(t, "encrypted with "+key, fmt.Sprint(s.Keys[key])+note)
	}
	row(t, "end without a refresh before "+stamp(s.Refresh.Before), s.Refresh.Count)
	s.Refresh.rows(t)
	row(t, "end in any case before "+stamp(s.Hard.Before), s.Hard.Count)
	s.Hard.rows(t)
	return t.Flush()
}

func (d deadlines) rows(w io.Writer) {
	for _, n := range d.Nearest {
		row(w, "  realm "+companies{n.Realm: n.Company}.named(n.Realm), stamp(n.At)+" ("+until(n.At)+")")
	}
	if more := d.Count - len(d.Nearest); more > 0 {
		row(w, "  and more", more)
	}
}

// span reads a duration, days included.
func span(text string) (time.Duration, error) {
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); err == nil && n == 1 && text == fmt.Sprintf("%dd", days) && days >= 0 && days < 10000 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time: give 30d or 36h", text)
	}
	return d, nil
}
