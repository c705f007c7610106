package console

import (
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
)

// kindRow is how changes of a kind became known.
type kindRow struct {
	Entity    string  `json:"entity"`
	Operation string  `json:"operation"`
	Told      int64   `json:"told"`
	Gaps      int64   `json:"gaps"`
	Late      int64   `json:"late"`
	Coverage  float64 `json:"coverage"`
}

// gapsView is the page Gaps.
type gapsView struct {
	Realm    string            `json:"-"`
	Verdict  string            `json:"-"`
	Findings []diagnosis.Issue `json:"findings"`
	Gaps     []state.Gap       `json:"gaps"`
	Kinds    []kindRow         `json:"coverage"`
	Counts   map[string]int64  `json:"verdicts"`
	Verdicts []string          `json:"-"`
	// Companies are the names of the companies by realm.
	Companies map[string]string `json:"companies,omitempty"`
}

const (
	gapsShown  = 100
	gapsRealms = 40
	gapsEach   = 20
)

func (s *Server) gaps(c echo.Context) (any, error) {
	ctx, now := c.Request().Context(), s.o.Now()
	v := gapsView{Realm: c.QueryParam("realm"), Verdict: c.QueryParam("verdict"), Gaps: []state.Gap{}, Verdicts: state.Verdicts()}
	var err error
	if v.Findings, err = diagnosis.Look(ctx, s.o.State, now); err != nil {
		return nil, err
	}
	days, err := s.o.State.DailyCoverage(ctx, state.Days)
	if err != nil {
		return nil, err
	}
	all := state.Coverage{}
	for _, d := range days {
		all.Merge(d)
	}
	for _, k := range all.Kinds() {
		t := all[k]
		v.Kinds = append(v.Kinds, kindRow{k.Entity, k.Operation, t.Told, t.Gaps, t.Late, t.Coverage()})
	}
	v.Counts = all.Verdicts()
	realms := []state.RealmTime{{Realm: v.Realm}}
	if v.Realm == "" {
		if realms, err = s.o.State.GapRealms(ctx, now.Add(-state.Days*24*time.Hour), gapsRealms); err != nil {
			return nil, err
		}
	}
	deselected, err := s.o.State.Deselected(ctx)
	if err != nil {
		return nil, err
	}
	each := gapsEach
	if v.Realm != "" || v.Verdict != "" {
		each = state.MaxGaps
	}
	for _, r := range realms {
		found, err := s.o.State.Gaps(ctx, r.Realm, each)
		if err != nil {
			return nil, err
		}
		state.ExplainGaps(found, deselected)
		for _, g := range found {
			if v.Verdict == "" || g.Verdict == v.Verdict {
				v.Gaps = append(v.Gaps, g)
			}
		}
	}
	slices.SortStableFunc(v.Gaps, func(a, b state.Gap) int { return b.Found.Compare(a.Found) })
	v.Gaps = v.Gaps[:min(len(v.Gaps), gapsShown)]
	v.Companies, err = companies(ctx, s, v.Gaps, func(g state.Gap) string { return g.Realm })
	return v, err
}
