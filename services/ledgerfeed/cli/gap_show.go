package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type gapShowCmd struct {
	redisFlags `embed:""`
	Realm      string `arg:"" help:"Company id (realmId)."`
	Entity     string `arg:"" help:"Entity type, such as Invoice."`
	ID         string `arg:"" help:"Record id."`
	JSON       bool   `help:"Print one JSON object."`
}

// Help is the long help of the command.
func (gapShowCmd) Help() string {
	return `Shows all gaps of a record that Redis holds, what their verdicts mean, and when webhooks of that kind last came:
to that company, and to any.

Examples:
  ledgerfeed gap show 9341453000000001 Invoice 145
  ledgerfeed gap show 9341453000000001 Invoice 145 --json | jq .gaps`
}

// gapShown is what --json prints.
type gapShown struct {
	Gaps []state.Gap `json:"gaps"`
	// Company is the name of the company.
	Company string `json:"company,omitempty"`
	// Heard are the last webhooks of that entity, by operation.
	Heard []heardKind `json:"heard"`
	// LastTold is when a webhook last told of any change of the company first.
	LastTold time.Time `json:"last_told,omitzero"`
	// Deselected says since when webhooks of an operation are not selected any more.
	Deselected map[string]time.Time `json:"deselected,omitempty"`
}

type heardKind struct {
	Operation string    `json:"operation"`
	Here      time.Time `json:"here,omitzero"`
	Anywhere  time.Time `json:"anywhere,omitzero"`
}

// Run shows the gaps of one record.
func (c *gapShowCmd) Run(ctx context.Context, p process) error {
	if !realmID.MatchString(c.Realm) {
		return lifecycle.Usage(fmt.Errorf("realm %q: give the company id, digits only", c.Realm))
	}
	name, err := knownEntity(c.Entity)
	if err != nil {
		return err
	}
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	shown, err := gapsOf(ctx, store, c.Realm, state.Ref{Entity: name, ID: c.ID})
	if err != nil {
		return err
	}
	if len(shown.Gaps) == 0 {
		return fmt.Errorf("no gap of %s %s of realm %s is known", name, plain(c.ID), c.Realm)
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(shown)
	}
	return shown.write(p.stdout)
}

func gapsOf(ctx context.Context, store *state.Store, realm string, ref state.Ref) (gapShown, error) {
	var shown gapShown
	gaps, err := store.Gaps(ctx, realm, 8*state.MaxGaps)
	if err != nil {
		return shown, err
	}
	deselected, err := store.Deselected(ctx)
	if err != nil {
		return shown, err
	}
	state.ExplainGaps(gaps, deselected)
	shown.Gaps = slices.DeleteFunc(gaps, func(g state.Gap) bool { return g.Ref != ref })
	for k, d := range deselected {
		if k.Entity == ref.Entity {
			if shown.Deselected == nil {
				shown.Deselected = map[string]time.Time{}
			}
			shown.Deselected[k.Operation] = d.Since
		}
	}
	names, err := store.CompanyNames(ctx, []string{realm})
	if err != nil {
		return shown, err
	}
	shown.Company = names[realm]
	here, err := store.Freshness(ctx, realm)
	if err != nil {
		return shown, err
	}
	heard, err := store.Heard(ctx)
	if err != nil {
		return shown, err
	}
	told, err := store.LastTold(ctx, []string{realm})
	if err != nil {
		return shown, err
	}
	shown.LastTold = told[0]
	for _, o := range []string{"create", "update", "delete", "merge", "void", "emailed"} {
		k := heardKind{Operation: o, Anywhere: heard[state.Kind{Entity: ref.Entity, Operation: o}]}
		for _, s := range here {
			if s.Entity == ref.Entity && s.Operation == o {
				k.Here = s.At
			}
		}
		if !k.Here.IsZero() || !k.Anywhere.IsZero() {
			shown.Heard = append(shown.Heard, k)
		}
	}
	return shown, nil
}

func (s gapShown) write(w io.Writer) error {
	if err := writeGaps(w, s.Gaps, companies{s.Gaps[0].Realm: s.Company}); err != nil {
		return err
	}
	told := map[string]bool{}
	for _, g := range s.Gaps {
		if !told[g.Verdict] {
			fmt.Fprintf(w, "\n%s: %s\n", orDash(g.Verdict), meaning(g.Verdict))
			told[g.Verdict] = true
		}
	}
	for _, operation := range slices.Sorted(maps.Keys(s.Deselected)) {
		fmt.Fprintf(w, "\n%s %ss are not selected since %s\n", s.Gaps[0].Entity, operation, clock(s.Deselected[operation]))
	}
	fmt.Fprintf(w, "\nlast webhook that told of a change of this company first: %s\n", clock(s.LastTold))
	if len(s.Heard) == 0 {
		_, err := fmt.Fprintf(w, "no webhook of %s was ever heard, in any company\n", s.Gaps[0].Entity)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nLAST WEBHOOKS OF %s\tHERE\tIN ANY COMPANY\n", s.Gaps[0].Entity)
	for _, k := range s.Heard {
		fmt.Fprintf(t, "%s\t%s\t%s\n", k.Operation, clock(k.Here), clock(k.Anywhere))
	}
	return t.Flush()
}

// meaning is a verdict in a sentence.
func meaning(verdict string) string {
	switch verdict {
	case state.VerdictLost:
		return "webhooks of that kind do come, this one did not. Intuit says that some get lost; the scans are for that."
	case state.VerdictLate:
		return "the webhook came after the scan had found the change."
	case state.VerdictOutage:
		return "our ingress could not take webhooks when it happened; Intuit may still resend it."
	case state.VerdictNotSelected:
		return "webhooks do come, but none of that kind to any company for a month: select it in Intuit's developer portal, under Webhooks."
	case state.VerdictDeselected:
		return "webhooks of that kind came once and do no more in several companies, while others do: select it again in Intuit's developer portal, under Webhooks. " +
			"Since when: ledgerfeed gap findings."
	case state.VerdictNoWebhooks:
		return "Intuit offers no webhook for it; scans are the only way to learn of it."
	case state.VerdictBeforeConnection:
		return "it happened before the company was connected; Intuit sends no webhooks for that."
	case state.VerdictRestored:
		return "a sink held it as deleted, and QuickBooks has it: the deletion was wrong, and the record was delivered again."
	case state.VerdictLapsed:
		return "the company's authorisation had lapsed; Intuit sends no webhooks then."
	}
	return "a verdict of another version of Ledgerfeed."
}
