package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

type gapCmd struct {
	Ls       gapLsCmd       `cmd:"" help:"List gaps, newest first."`
	Show     gapShowCmd     `cmd:"" help:"Show the gaps of one record and their verdicts."`
	Findings gapFindingsCmd `cmd:"" help:"Diagnose webhook problems and suggest fixes."`
	Coverage gapCoverageCmd `cmd:"" help:"Show webhook coverage and latency."`
}

// checkRealm refuses what is no company id; empty is all.
func checkRealm(realm string) error {
	if realm == "" {
		return nil
	}
	return validRealms("--realm", realm)
}

// knownEntity is the name as the API spells it.
func knownEntity(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	info, ok := entity.Lookup(name)
	if !ok {
		return "", lifecycle.Usage(fmt.Errorf("--entity %s: there is no such entity; name one as the API does, such as Invoice", name))
	}
	return info.Name, nil
}

// printJSON writes one object a line.
func printJSON[T any](w io.Writer, all []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, one := range all {
		if err := enc.Encode(one); err != nil {
			return err
		}
	}
	return nil
}

// gapFilter says which gaps are meant.
type gapFilter struct {
	Realm     string   `placeholder:"ID" help:"Filter by company id."`
	Entity    string   `placeholder:"NAME" help:"Filter by entity type, such as Invoice."`
	Operation string   `placeholder:"NAME" help:"Filter by operation: create, update or delete."`
	Verdict   []string `placeholder:"NAME" help:"Filter by verdict (comma-separated)."`
	Since     moment   `placeholder:"TIME" help:"Filter by detection time, from TIME on: 2026-11-20, 2026-11-20T15:04:05Z, or 36h or 7d ago."`
}

func (f *gapFilter) validate() (err error) {
	if err := checkRealm(f.Realm); err != nil {
		return err
	}
	if f.Entity, err = knownEntity(f.Entity); err != nil {
		return err
	}
	if f.Operation != "" && !slices.Contains([]string{"create", "update", "delete"}, f.Operation) {
		return lifecycle.Usage(fmt.Errorf("--operation %s: give create, update or delete: a scan cannot tell the others from an update", f.Operation))
	}
	for _, v := range f.Verdict {
		if !slices.Contains(state.Verdicts(), v) {
			return lifecycle.Usage(fmt.Errorf("--verdict %s: there is no such verdict; there are: %s", v, strings.Join(state.Verdicts(), ", ")))
		}
	}
	return nil
}

func (f *gapFilter) takes(g state.Gap) bool {
	return (f.Entity == "" || f.Entity == g.Entity) && (f.Operation == "" || f.Operation == g.Operation) &&
		(len(f.Verdict) == 0 || slices.Contains(f.Verdict, g.Verdict)) && !g.Found.Before(f.Since.time())
}

// maxGapRealms bounds the companies whose ledgers are read for one list.
const maxGapRealms = 5000

// newest are the latest gaps that are meant, up to limit; 0 is all.
func (f *gapFilter) newest(ctx context.Context, store *state.Store, limit int) ([]state.Gap, error) {
	realms := []state.RealmTime{{Realm: f.Realm}}
	if f.Realm == "" {
		var err error
		if realms, err = store.GapRealms(ctx, f.Since.time(), maxGapRealms); err != nil {
			return nil, err
		}
	}
	deselected, err := store.Deselected(ctx)
	if err != nil {
		return nil, err
	}
	var found []state.Gap
	for _, r := range realms {
		if limit > 0 && len(found) == limit && r.At.Before(found[limit-1].Found) {
			break // the realms to come have only older ones
		}
		gaps, err := store.Gaps(ctx, r.Realm, 8*state.MaxGaps)
		if err != nil {
			return nil, err
		}
		state.ExplainGaps(gaps, deselected)
		found = append(found, slices.DeleteFunc(gaps, func(g state.Gap) bool { return !f.takes(g) })...)
		slices.SortStableFunc(found, func(a, b state.Gap) int { return cmp.Or(b.Found.Compare(a.Found), cmp.Compare(a.Realm, b.Realm)) })
		if limit > 0 && len(found) > limit {
			found = found[:limit]
		}
	}
	return found, nil
}

// clock is a time as the tables show it.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

// rough is a duration of one or two units.
func rough(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	case d >= 10*time.Second:
		return d.Truncate(time.Second).String()
	}
	return d.Truncate(10 * time.Millisecond).String()
}
