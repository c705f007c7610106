package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

// realmRow is a company in a list.
type realmRow struct {
	Realm        string            `json:"realm"`
	Company      string            `json:"company,omitempty"`
	App          string            `json:"app"`
	State        realmstatus.State `json:"state"`
	Why          string            `json:"why,omitempty"`
	OldestCursor time.Time         `json:"oldest_cursor,omitzero"`
	OldestEntity string            `json:"oldest_entity,omitempty"`
	Due          time.Time         `json:"due,omitzero"`
	Scans        int               `json:"open_scans"`
	ConnectedAt  time.Time         `json:"connected_at,omitzero"`
}

func rowOf(r realmstatus.Realm) realmRow {
	return realmRow{
		Realm: r.RealmID, Company: r.Company, App: r.App, State: r.Health, Why: r.Why, OldestCursor: r.OldestCursor, OldestEntity: r.OldestEntity,
		Due: r.Due, Scans: r.Scans, ConnectedAt: r.ConnectedAt,
	}
}

// realmsView is the page Realms.
type realmsView struct {
	Q      string              `json:"-"`
	State  realmstatus.State   `json:"-"`
	After  string              `json:"-"`
	States []realmstatus.State `json:"-"`
	Realms []realmRow          `json:"realms"`
	Next   string              `json:"next,omitempty"`
}

const pageSize = 50

func (s *Server) realmList(c echo.Context) (any, error) {
	v := realmsView{Q: c.QueryParam("q"), State: realmstatus.State(c.QueryParam("state")), After: c.QueryParam("after"), States: realmstatus.States()}
	q := realmstatus.Query{After: v.After, Limit: pageSize, Prefix: v.Q}
	if v.State != "" {
		if !slices.Contains(v.States, v.State) {
			return nil, problem(http.StatusBadRequest, "No such state", "Choose one of live, catching_up, gap_suspected, no_access, subscription_ended, wrong_environment, parked, pending_approval and disconnected.")
		}
		q.States = []realmstatus.State{v.State}
	}
	page, err := s.realms.List(c.Request().Context(), q)
	if err != nil {
		return nil, err
	}
	v.Realms, v.Next = []realmRow{}, page.Next
	for _, r := range page.Realms {
		v.Realms = append(v.Realms, rowOf(r))
	}
	return v, nil
}

// entityRow is one kind of record of a company.
type entityRow struct {
	Entity   string    `json:"entity"`
	Cursor   time.Time `json:"cursor,omitzero"`
	Webhook  time.Time `json:"last_webhook,omitzero"`
	Told     int64     `json:"told"`
	Gaps     int64     `json:"gaps"`
	Coverage float64   `json:"coverage"`
	// Refused says how QuickBooks refuses it in this company, in words; RefusedText is
	// Intuit's text.
	Refused     string `json:"refused,omitempty"`
	RefusedText string `json:"refused_text,omitempty"`
}

// happening is a line of the timeline.
type happening struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Learned string    `json:"learned"` // webhook, cdc or query
	Why     string    `json:"why,omitempty"`
}

// realmView is the page of one company.
type realmView struct {
	realmRow
	Reason     string    `json:"reason,omitempty"`
	TokenEnds  time.Time `json:"refresh_token_ends,omitzero"`
	AccessEnds time.Time `json:"access_token_ends,omitzero"`
	Loaded     int       `json:"entities_loaded"`
	// ConsentApp and ConsentAt are of a consent that waits for approval.
	ConsentApp string      `json:"consent_app,omitempty"`
	ConsentAt  time.Time   `json:"consent_waits_since,omitzero"`
	Job        *jobView    `json:"scan,omitempty"` // the last that was asked for
	Entities   []entityRow `json:"entities"`
	Timeline   []happening `json:"timeline"`
	Kinds      []string    `json:"-"`
	Connect    bool        `json:"-"`
}

const timelineLength = 30

func (s *Server) realm(c echo.Context) (any, error) {
	ctx, id := c.Request().Context(), c.Param("realm")
	r, err := s.realms.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	seen, err := s.o.State.Freshness(ctx, id)
	if err != nil {
		return nil, err
	}
	gaps, err := s.o.State.Gaps(ctx, id, timelineLength)
	if err != nil {
		return nil, err
	}
	weeks, err := s.o.State.WeeklyCoverage(ctx, id, state.Weeks)
	if err != nil {
		return nil, err
	}
	v := realmView{
		realmRow: rowOf(r), Reason: r.Reason, Loaded: len(r.Cursors), TokenEnds: r.Token.RefreshExpires, AccessEnds: r.Token.AccessExpires,
		ConsentApp: r.Consent.App, ConsentAt: r.Consent.At,
		Timeline: timeline(seen, gaps), Kinds: scannable(), Connect: s.o.Connect != nil,
	}
	if v.Job, err = s.job(ctx, id); err != nil {
		return nil, err
	}
	all := state.Coverage{}
	for _, w := range weeks {
		all.Merge(w)
	}
	refused, err := s.o.State.Refusals(ctx, id)
	if err != nil {
		return nil, err
	}
	v.Entities = entityRows(r.Cursors, seen, all, refused)
	return v, nil
}

// scannable are the kinds of records that can be loaded.
func scannable() (names []string) {
	for _, info := range entity.All() {
		if info.Query {
			names = append(names, info.Name)
		}
	}
	slices.Sort(names)
	return names
}

func entityRows(cursors map[string]time.Time, seen []state.Sighting, cover state.Coverage, refused []state.Refusal) []entityRow {
	rows := map[string]*entityRow{}
	row := func(name string) *entityRow {
		if rows[name] == nil {
			rows[name] = &entityRow{Entity: name}
		}
		return rows[name]
	}
	for name, at := range cursors {
		row(name).Cursor = at
	}
	for _, x := range seen {
		if r := row(x.Entity); x.At.After(r.Webhook) {
			r.Webhook = x.At
		}
	}
	tallies := map[string]state.Tally{}
	for _, k := range cover.Kinds() {
		t := tallies[k.Entity]
		t.Add(cover[k])
		tallies[k.Entity] = t
	}
	for name, t := range tallies {
		r := row(name)
		r.Told, r.Gaps, r.Coverage = t.Told, t.Gaps, t.Coverage()
	}
	for _, x := range refused {
		// Sorted by the way of asking: what concerns most comes last.
		r := row(x.Entity)
		if x.Way == state.RefusedByCount && r.Refused != "" {
			continue
		}
		r.Refused, r.RefusedText = x.Words(), x.Text
	}
	list := make([]entityRow, 0, len(rows))
	for _, r := range rows {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b entityRow) int { return cmp.Compare(a.Entity, b.Entity) })
	return list
}

// timeline is what is kept of the last changes: of each kind the last webhook, and of
// what scans found each record. Newest first.
func timeline(seen []state.Sighting, gaps []state.Gap) []happening {
	lines := []happening{}
	for _, x := range seen {
		lines = append(lines, happening{At: x.At, What: x.Entity + " " + x.Operation, Learned: "webhook"})
	}
	for _, g := range gaps {
		lines = append(lines, happening{At: g.Found, What: fmt.Sprintf("%s %s %s", g.Entity, g.ID, g.Operation), Learned: g.Source, Why: g.Verdict})
	}
	slices.SortStableFunc(lines, func(a, b happening) int { return b.At.Compare(a.At) })
	return lines[:min(len(lines), timelineLength)]
}

// known is the realm of the path, or an error where it never was connected.
func (s *Server) known(c echo.Context) (string, string, error) {
	id := c.Param("realm")
	_, err := s.o.Connections.Known(c.Request().Context(), id)
	return id, "/realms/" + url.PathEscape(id), err
}
