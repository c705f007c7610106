package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

type realmShowCmd struct {
	Realm string `arg:"" help:"Company id (realmId)."`
	JSON  bool   `help:"Print one JSON object."`
}

// Help is the long help of the command.
func (realmShowCmd) Help() string {
	return `Shows how a company is doing and why, since when, up to when each kind of record is proved to be delivered, when
it is scanned next, and when its authorisation ends. No token is shown.

Examples:
  ledgerfeed realm show 9341453000000001
  ledgerfeed realm show 9341453000000001 --json | jq .cursors`
}

// Run shows.
func (c *realmShowCmd) Run(ctx context.Context, p process) error {
	if err := validRealms("realm", c.Realm); err != nil {
		return err
	}
	s, directory, err := openDirectory(ctx, p)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	r, err := directory.Get(ctx, c.Realm)
	if errors.Is(err, connection.ErrNotConnected) {
		if lost, err := connection.LostRealms(ctx, s.store); err == nil && slices.Contains(lost, c.Realm) {
			return fmt.Errorf("realm %s: %w: %s", c.Realm, connection.ErrLost, connection.LostRemedy)
		}
		return fmt.Errorf("realm %s was never connected: ledgerfeed realm ls lists those that were", c.Realm)
	}
	if err != nil {
		return away(ctx, s, err)
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(struct {
			realmView
			Cursors map[string]time.Time `json:"cursors"`
		}{viewOf(r), r.Cursors})
	}
	known, err := s.store.Companies(ctx, []string{c.Realm})
	if err != nil {
		return away(ctx, s, err)
	}
	return c.print(p, r, known[0])
}

func (c *realmShowCmd) print(p process, r realmstatus.Realm, company state.Company) error {
	v := viewOf(r)
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	row(t, "realm", v.Realm)
	for _, one := range [][2]string{
		{"company", company.Name}, {"legal name", company.LegalName}, {"country", company.Country}, {"home currency", company.HomeCurrency},
		{"fiscal year from", company.FiscalYearStart}, {"time zone offset", company.TimeZoneOffset},
	} {
		if one[1] != "" {
			row(t, one[0], plain(one[1]))
		}
	}
	row(t, "app", orDash(v.App))
	row(t, "state", v.State.String())
	if v.Why != "" {
		row(t, "why", plain(v.Why))
	}
	if x := r.Access; x.Found() {
		row(t, "Intuit answers", plain(x.Message))
		row(t, "refused since", stamp(x.Since))
		row(t, "intuit_tid", orDash(plain(x.TID)))
		row(t, "Intuit is asked again", stamp(x.Next))
	}
	if x := r.Consent; x.Waits() {
		row(t, "consent waits for approval", fmt.Sprintf("app %s, since %s: ledgerfeed realm approve or reject", plain(x.App), stamp(x.At)))
	}
	row(t, "connected", stamp(v.ConnectedAt))
	row(t, "in this connection since", stamp(v.ChangedAt))
	if !v.LapsedAt.IsZero() {
		row(t, "last ceased to be live", stamp(v.LapsedAt))
	}
	row(t, "last scan", stamp(v.LastScan))
	switch {
	case v.BeingScanned:
		row(t, "next scan", "now")
	default:
		row(t, "next scan", stamp(v.Due))
	}
	row(t, "scans not verified", v.OpenScans)
	v.Token.rows(t)
	if late := v.AfterDisconnect; late != nil {
		row(t, "webhooks since the disconnect", fmt.Sprintf("%d, the last at %s", late.Events, stamp(late.Last)))
		if late.GrantActive {
			row(t, "  so the authorisation is active", connection.OwnerEnds)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Cursors)) {
		row(t, "covered "+name, stamp(r.Cursors[name]))
	}
	return t.Flush()
}
