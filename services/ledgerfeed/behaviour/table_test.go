package behaviour_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// row is a behaviour of the real API, and what the feed has to make of it.
type row struct {
	name   string // as the page shows it
	lasts  time.Duration
	realms int          // companies; 0 is one
	begin  func(d *day) // at the second hour of the day
	end    func(d *day) // after lasts; nil: it ends by itself
	// What is allowed at the end of the day.
	state     connection.State
	missing   []string // entities that may differ
	waiting   bool     // events may wait
	most      int      // metered calls of the whole day
	refused   int      // refused calls
	refreshes int
}

// passing is a recorded response to every call for a minute, or to calls about one
// company.
func passing(name string) func(*day) {
	return func(d *day) { d.refuse(qbosim.Refusal{Recorded: name, For: time.Minute}) }
}

// lasting is a recorded response to calls about one entity, "" for all, until it is lifted.
func lasting(name, entity string) func(*day) {
	return func(d *day) { d.refuse(qbosim.Refusal{Recorded: name, Entity: entity}) }
}

func lift(d *day) {
	d.sim.SetFaults(qbosim.Faults{})
}

func refuseRefreshes(description string, lasts time.Duration) func(*day) {
	return func(d *day) {
		f := d.sim.Faults()
		f.RefuseRefresh = []qbosim.TokenRefusal{{Description: description, For: lasts}}
		d.sim.SetFaults(f)
		for _, realm := range d.realms {
			d.sim.ExpireAccess(realm)
		}
	}
}

// gatewayLasts is how long a passing response is given, outageLasts how long an outage.
const (
	gatewayLasts = time.Minute
	outageLasts  = 30 * time.Minute
	accessLasts  = 8 * time.Hour
)

// rows are those of the page, in its order.
func rows() []row {
	few := func(r row) row { // what passes costs a few calls
		r.state, r.most, r.refused, r.refreshes = connection.Live, 60, 120, 30
		return r
	}
	entity := func(name string) row {
		return row{name: name + " for one entity, for good", lasts: 24 * time.Hour, state: connection.Live, most: 40, refused: 60, refreshes: 30}
	}
	with := func(r row, begin, end func(*day)) row { r.begin, r.end = begin, end; return r }
	all := []row{}
	for _, p := range []struct{ name, text string }{
		{"gateway-404", "404 with an HTML page"}, {"gateway-302", "302 \"resource has moved\""}, {"gateway-403", "403 \"routing error\", no Fault"},
		{"gateway-400", "400 with an HTML page"}, {"gateway-503", "503 with an HTML page"}, {"internal-6000", "400/6000 \"(-30000)\""},
		{"wait-6000", "400/6000 \"wait a few minutes\""}, {"server-3100", "500 with code 3100"}, {"xml-200", "XML Fault inside a 200"},
	} {
		all = append(all, with(few(row{name: p.text, lasts: gatewayLasts}), passing(p.name), nil))
	}
	all = append(all,
		with(few(row{name: "400 \"Could not find resource for relative\"", lasts: outageLasts}), func(d *day) {
			d.refuse(qbosim.Refusal{Recorded: "resource-400", For: outageLasts})
		}, nil),
		with(few(row{name: "401 code 100 to a good token", lasts: outageLasts}), func(d *day) {
			d.refuse(qbosim.Refusal{Recorded: "auth-100", For: outageLasts})
		}, nil),
		with(few(row{name: "401 code 130 \"Accessing Wrong Cluster\"", lasts: outageLasts}), func(d *day) {
			d.refuse(qbosim.Refusal{Recorded: "cluster-130", For: outageLasts})
		}, nil),
		with(few(row{name: "401 code 120, rights lost", lasts: accessLasts}), lasting("access-120", ""), lift),
		with(few(row{name: "403/3100, subscription or environment", lasts: accessLasts}), lasting("forbidden-3100", ""), lift),
		with(few(row{name: "400/6190, subscription ended", lasts: accessLasts}), lasting("ended-6190", ""), lift),
		with(entity("400/5020"), lasting("feature-5020", refusedEntity), nil),
		with(entity("400/5030"), lasting("feature-5030", refusedEntity), nil),
		with(entity("400/6190"), lasting("ended-6190", refusedEntity), nil),
		with(entity("403/3100"), lasting("forbidden-3100", refusedEntity), nil),
		with(entity("404 page"), lasting("gateway-404", refusedEntity), nil),
		with(entity("500"), lasting("system-500", refusedEntity), nil),
		with(few(row{name: "400/4001 \"property is not queryable\"", lasts: 24 * time.Hour}), func(d *day) {
			f := d.sim.Faults()
			f.Unfilterable = []string{"Preferences"}
			d.sim.SetFaults(f)
		}, nil),
		with(few(row{name: "`invalid_grant`, keys of another app, five companies", lasts: outageLasts, realms: 5}), refuseRefreshes(qbosim.WrongClient, outageLasts), nil),
		with(few(row{name: "`invalid_grant` in an incident", lasts: 2 * time.Hour}), refuseRefreshes("", 2*time.Hour), nil),
		row{name: "revoke answers 400", lasts: 24 * time.Hour, state: connection.Disconnected, most: 40, refused: 20, refreshes: 5, waiting: true,
			missing: []string{"*"}, begin: disconnect},
	)
	return all
}

// disconnect is a person who disconnects a company while Intuit answers 400 to each
// revocation.
func disconnect(d *day) {
	f := d.sim.Faults()
	f.RefuseRevoke = true
	d.sim.SetFaults(f)
	// What it says of the revocation is looked at elsewhere; here its company's state counts.
	ignore(d.connections.Revoke(d.t.Context(), d.realms[0], connection.Disconnected, "a person disconnected it", d.oauth))
}

func ignore(...any) {}

// measured are the outcomes of the rows, for the page.
var measured = struct {
	mu  sync.Mutex
	all map[string]outcome
}{all: map[string]outcome{}}

// changesADay are made in four parts: before, at the begin of, during and after what the
// row says.
const changesADay = 16

// TestDay_Table plays each row for a day: sixteen changes, of which webhooks tell.
func TestDay_Table(t *testing.T) {
	t.Run("rows", func(t *testing.T) {
		for _, r := range rows() {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				o := r.play(t)
				t.Log(o)
				r.judge(t, o)
				measured.mu.Lock()
				defer measured.mu.Unlock()
				measured.all[r.name] = o
			})
		}
	})
	if t.Failed() {
		return
	}
	name := filepath.Join("..", "..", "..", "docs", "behaviour.md")
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	if *update {
		page = replaceTable(t, page)
		require.NoError(t, os.WriteFile(name, page, 0o644))
	}
	for _, r := range rows() {
		require.Contains(t, string(page), "\n| "+r.name+" |", "docs/behaviour.md is out of date: go test ./services/ledgerfeed/behaviour -run TestDay_Table -update")
	}
}

func (r row) play(t *testing.T) outcome {
	d := begin(t, max(r.realms, 1), company)
	d.age()
	d.advance(24*time.Hour - scanAfter)
	before := d.sim.Stats()
	part := func() {
		for _, realm := range d.realms {
			d.change(realm, changesADay/4/len(d.realms)+1)
		}
	}
	left := 24 * time.Hour
	pass := func(by time.Duration) { by = min(by, left); d.advance(by); left -= by }
	part()
	pass(time.Hour)
	r.begin(d)
	part()
	pass(r.lasts / 2)
	if r.lasts >= outageLasts {
		part()
	}
	pass(r.lasts - r.lasts/2)
	if r.end != nil {
		r.end(d)
	}
	pass(step)
	part()
	pass(left)
	if !slices.Contains(r.missing, "*") {
		d.drain()
	}
	return d.since(before)
}

// scanAfter is how long after the begin of a row's day its companies are scanned.
const scanAfter = 3 * time.Hour

// drain waits for events that wait for a delay of the broker, which passes by the real
// clock.
func (d *day) drain() {
	d.t.Helper()
	end := time.Now().Add(drainWait)
	require.Eventually(d.t, func() bool {
		return time.Now().After(end) || len(d.since(qbosim.Stats{}).missing) == 0
	}, patient, 50*time.Millisecond)
	d.rest()
}

const drainWait = 20 * time.Second

func (r row) judge(t *testing.T, o outcome) {
	t.Helper()
	require.Zero(t, o.dead, "dead letters: %s", o)
	require.Equal(t, map[connection.State]int{r.state: max(r.realms, 1)}, o.states, "%s", o)
	require.LessOrEqual(t, o.answered, r.most*max(r.realms, 1), "metered calls: %s", o)
	require.LessOrEqual(t, o.refused, r.refused*max(r.realms, 1), "refused calls: %s", o)
	require.LessOrEqual(t, o.refreshes, r.refreshes*max(r.realms, 1), "refreshes: %s", o)
	if !slices.Contains(r.missing, "*") {
		require.Empty(t, o.missing, "%s", o)
	}
	if !r.waiting {
		require.Zero(t, o.waiting, "%s", o)
	}
}

const (
	tableBegins = "<!-- The table is measured by go test ./services/ledgerfeed/behaviour -run TestDay_Table -update. -->\n"
	tableEnds   = "<!-- End of the measured table. -->\n"
)

func replaceTable(t *testing.T, page []byte) []byte {
	t.Helper()
	before, rest, ok := strings.Cut(string(page), tableBegins)
	require.True(t, ok, "docs/behaviour.md has no place for the table")
	_, after, ok := strings.Cut(rest, tableEnds)
	require.True(t, ok)
	var b strings.Builder
	b.WriteString("| QuickBooks answers | For | Calls answered | Refused | Refreshes | Delivered | Company | Dead letters |\n|---|---|---|---|---|---|---|---|\n")
	measured.mu.Lock()
	defer measured.mu.Unlock()
	for _, r := range rows() {
		o := measured.all[r.name]
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d of %d | %s | %d |\n",
			r.name, lastsText(r.lasts), o.answered, o.refused, o.refreshes, o.same, o.records, stateText(o), o.dead)
	}
	return []byte(before + tableBegins + b.String() + tableEnds + after)
}

func lastsText(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return "the day"
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func stateText(o outcome) string {
	var all []string
	for state, n := range o.states {
		text := string(state)
		if n > 1 {
			text = fmt.Sprintf("%d %s", n, text)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	text := strings.Join(all, ", ")
	for _, name := range slices.Sorted(maps.Keys(o.left)) {
		text += ", without " + name
	}
	return text
}
