package reconciler_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// answerTo is a response that refuses a call.
type answerTo struct {
	name   string
	status int
	body   string
	says   string // what of it an operator must read
}

func faultBody(kind, code, message, detail string) string {
	return fmt.Sprintf(`{"Fault":{"Error":[{"Message":%q,"Detail":%q,"code":%q}],"type":%q},"time":"2026-11-02T01:00:00.000-08:00"}`, message, detail, code, kind)
}

// refusals are what QuickBooks may answer to a call for an entity that a company is
// without. Which of them a read gets is not documented: each was recorded somewhere.
var refusals = []answerTo{
	{"4001", 400, faultBody("ValidationFault", "4001", "Invalid query", "QueryValidationError: Metadata not found for Entity: Budget"), "Metadata not found"},
	{"5020", 400, faultBody("ValidationFault", "5020", "Permission Denied Error", "Permission Denied Error : You issued a request against a feature for which your product is not entitled."), "not entitled"},
	{"5030", 400, faultBody("ValidationFault", "5030", "Feature Not Supported Error", "Feature Not Supported Error : The feature is off"), "The feature is off"},
	{"6000", 400, faultBody("ValidationFault", "6000", "A business validation error has occurred while processing your request", "Business Validation Error: You cannot do this here"), "cannot do this here"},
	{"6190", 400, faultBody("ValidationFault", "6190", "Invalid Company Status", "Subscription period has ended or cancelled or there was a billing problem"), "Subscription period has ended"},
	{"bare 400", 400, "", "400"},
	{"404 with a page", 404, "<!DOCTYPE HTML><html><head><title>404 Not Found</title></head></html>", "404"},
	{"403", 403, `{"fault":{"error":[{"message":"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403","detail":null,"code":"3100"}],"type":"SERVICE"}}`, "3100"},
	{"401", 401, `<?xml version="1.0" encoding="UTF-8"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3"><Fault type="AuthorizationFault"><Error code="120"><Message>Authorization Failure</Message><Detail>AuthorizationFailure: -11014-You do not have access to use QuickBooks Online Plus.</Detail></Error></Fault></IntuitResponse>`, "do not have access"},
	{"fault in a 200", 200, faultBody("ValidationFault", "5020", "Permission Denied Error", "Permission Denied Error : You issued a request against a feature for which your product is not entitled."), "not entitled"},
	{"500", 500, faultBody("SystemFault", "10000", "An application error has occurred while processing your request", "System Failure Error"), "System Failure"},
}

// gate is between the reconciler and QuickBooks. It refuses calls for one entity, counts
// those that are metered, and those that are not.
type gate struct {
	mu      sync.Mutex
	victim  string
	answer  answerTo
	all     bool // every call is refused
	queries bool // every Query is
	only    func(r *http.Request) bool
	metered int
	refused int
	asked   []string
}

// entitiesOf are the entities a call asks for.
func entitiesOf(r *http.Request) []string {
	if names := r.URL.Query().Get("entities"); names != "" {
		return strings.Split(names, ",")
	}
	words := strings.Fields(r.URL.Query().Get("query"))
	if i := slices.Index(words, "FROM"); i >= 0 && i+1 < len(words) {
		return words[i+1 : i+2]
	}
	return nil
}

func (g *gate) set(change func(g *gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

func (g *gate) counts() (metered, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.metered, g.refused
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
	if !strings.Contains(r.URL.Path, "/v3/company/") {
		quickbooks.ServeHTTP(w, r)
		return
	}
	g.mu.Lock()
	refuse := g.all || g.queries && r.URL.Query().Has("query") || slices.Contains(entitiesOf(r), g.victim) && (g.only == nil || g.only(r))
	if refuse {
		g.refused++
	}
	g.asked = append(g.asked, r.URL.Query().Get("entities")+r.URL.Query().Get("query"))
	answer := g.answer
	g.mu.Unlock()
	if !refuse {
		answered := &statusOf{ResponseWriter: w, status: http.StatusOK}
		quickbooks.ServeHTTP(answered, r)
		g.set(func(g *gate) {
			if answered.status == http.StatusOK {
				g.metered++
			} else {
				g.refused++
			}
		})
		return
	}
	if strings.HasPrefix(answer.body, "<?xml") {
		w.Header().Set("Content-Type", "application/xml")
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write([]byte(answer.body))
}

// statusOf is the status of a response.
type statusOf struct {
	http.ResponseWriter
	status int
}

func (w *statusOf) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// guard puts a gate before QuickBooks.
func (b *bundle) guard(victim string, answer answerTo) *gate {
	g := &gate{victim: victim, answer: answer}
	b.between(g.serve)
	return g
}

// ticks runs the schedule in steps of five minutes, each after the scans of the one
// before have ended and what they found is delivered.
func (b *bundle) ticks(n int) {
	b.t.Helper()
	for range n {
		b.clock.Advance(5 * time.Minute)
		b.atRest()
	}
}

// atRest waits until no scan is due, under way, or to be verified. While the clock stands
// a claimed realm is due at the end of its claim.
func (b *bundle) atRest() {
	b.t.Helper()
	lease := state.TempKey("lease", reconciler.LeaseName(b.realm))
	require.Eventually(b.t, func() bool {
		due, now := b.due(), b.clock.Now()
		held, err := b.store.Redis().Exists(b.t.Context(), lease).Result()
		require.NoError(b.t, err)
		claimed := due.Equal(now.Add(b.config.LeaseTTL * 3 / 2))
		return due.After(now) && !claimed && held == 0 && len(b.scans()) == 0
	}, patient, time.Millisecond)
}

// untilRefused lets scans follow each other until the company, not an entity, is what is
// refused. The clock stands while a scan is under way: its claim would run out.
func (b *bundle) untilRefused() {
	b.t.Helper()
	for range 100 {
		b.atRest()
		c, err := b.connections.Get(b.t.Context(), b.realm)
		require.NoError(b.t, err)
		if c.State.Refused() {
			return
		}
		b.clock.Advance(b.due().Sub(b.clock.Now()))
	}
	require.Fail(b.t, "the company is not refused")
}

// failed is how many scans have failed.
func failed(t *testing.T, reg *prometheus.Registry) (n int) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "ledgerfeed_reconciler_scans_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "failed" {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// cursorAge is the metric.
func cursorAge(t *testing.T, reg *prometheus.Registry) time.Duration {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "ledgerfeed_reconciler_cursor_age_seconds" {
			return time.Duration(f.GetMetric()[0].GetGauge().GetValue()) * time.Second
		}
	}
	return 0
}

func (b *bundle) counted() (*reconciler.Reconciler, *prometheus.Registry) {
	b.t.Helper()
	reg := prometheus.NewRegistry()
	r, err := reconciler.New(reconciler.Options{
		Config: b.config, Stream: b.conn, State: b.store, QBO: b.client, Connections: b.connections,
		Logger: b.log, Now: b.clock.Now, Registerer: reg,
	})
	require.NoError(b.t, err)
	return r, reg
}

// without is how the sink differs from QuickBooks but for one entity.
func (b *bundle) without(victim string) string {
	want, got := map[qbosim.Ref]string{}, map[qbosim.Ref]string{}
	have := b.feed.versions("ledger", b.realm)
	for ref, truth := range b.sim.Truth(b.realm) {
		if ref.Entity == victim || truth.Deleted {
			continue
		}
		want[ref] = fmt.Sprint(truth.Version)
		if version := have[state.Ref{Entity: ref.Entity, ID: ref.ID}]; version > 0 {
			got[ref] = fmt.Sprint(version)
		}
	}
	return cmp.Diff(want, got)
}

func (b *bundle) refusalOf(entity, way string) state.Refusal {
	b.t.Helper()
	all, err := b.store.Refusals(b.t.Context(), b.realm)
	require.NoError(b.t, err)
	for _, one := range all {
		if one.Entity == entity && one.Way == way {
			return one
		}
	}
	return state.Refusal{}
}

func (b *bundle) deadLetters() int {
	b.t.Helper()
	counts, err := b.conn.DeadCounts(b.t.Context())
	require.NoError(b.t, err)
	n := 0
	for _, one := range counts {
		n += int(one)
	}
	return n
}

// A day of the schedule, for a company that was loaded and for a new one: whatever
// QuickBooks answers for one entity, all others are delivered, at the cost of a day
// without refusals.
func TestRefuse_ADayOfTheSchedule(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"Budget", "TimeActivity"} {
		for _, answer := range refusals {
			t.Run(victim+" "+answer.name, func(t *testing.T) {
				t.Run("old company", func(t *testing.T) { t.Parallel(); dayOfAnOldCompany(t, victim, answer) })
				t.Run("new company", func(t *testing.T) { t.Parallel(); dayOfANewCompany(t, victim, answer) })
			})
		}
	}
}

// A 401 to one entity whose code blames the token is no different: the token is neither
// replaced nor held back, for the API takes it for all others.
func TestRefuse_A401ToOneEntity(t *testing.T) {
	t.Parallel()
	for _, answer := range []answerTo{
		{"3200", 401, `{"fault":{"error":[{"message":"message=AuthenticationFailed; errorCode=003200; statusCode=401","detail":"Token not authorized","code":"3200"}],"type":"AUTHENTICATION"}}`, "3200"},
		{"100", 401, `{"Fault":{"Error":[{"Message":"General Authentication Error","Detail":"SRV-110-Authentication Failure","code":"100"}],"type":"AUTHENTICATION"}}`, "SRV-110"},
		{"no fault", 401, "", "401"},
	} {
		t.Run(answer.name+", old company", func(t *testing.T) { t.Parallel(); dayOfAnOldCompany(t, "Budget", answer) })
		t.Run(answer.name+", new company", func(t *testing.T) { t.Parallel(); dayOfANewCompany(t, "TimeActivity", answer) })
	}
}

// seen are entities of all kinds of reads.
var seenEntities = []string{"CompanyInfo", "Preferences", "Account", "Invoice", "Customer", "Vendor", "Bill", "Class", "Payment", "Term"}

func dayOfAnOldCompany(t *testing.T, victim string, answer answerTo) {
	b := quiet(t)
	// It uses the entity, and has the day before it behind it.
	b.use(b.reconciler(), victim)
	stop := run(t, b.reconciler())
	b.rest()
	stop()
	g := b.guard(victim, answer)
	r, reg := b.counted()
	defer run(t, r)()
	lost := b.create(victim)
	b.ticks(288)
	metered, refused := g.counts()
	t.Logf("day 1: %d metered calls, %d refused, %d failed scans", metered, refused, failed(t, reg))
	require.LessOrEqual(t, metered, 3, "%s", strings.Join(g.asked, "\n"))
	require.LessOrEqual(t, refused, 60)
	require.LessOrEqual(t, failed(t, reg), 3)

	// And so it stays. A change that no webhook told is found.
	before := failed(t, reg)
	for day := range 8 {
		at, was, asked := b.cursors()["Invoice"], metered, len(g.asked)
		b.create("Invoice")
		for range 3 {
			b.clock.Advance(8 * time.Hour)
			b.atRest()
		}
		require.True(t, b.cursors()["Invoice"].After(at))
		metered, refused = g.counts()
		t.Logf("day %d: %d metered calls, %d refused", day+2, metered-was, refused)
		require.LessOrEqual(t, metered-was, 3, "%s", strings.Join(g.asked[asked:], "\n"))
		require.Empty(t, b.without(victim))
	}
	require.Equal(t, before, failed(t, reg), "no scan fails")
	require.LessOrEqual(t, refused, 80)
	require.Zero(t, b.deadLetters())
	one := b.refusalOf(victim, "query")
	require.Contains(t, one.Text, answer.says)
	require.True(t, one.Lasting)
	require.False(t, b.has(victim, lost.ID))

	// It comes with another edition, within the week.
	g.set(func(g *gate) { g.victim = "" })
	for range 9 {
		b.clock.Advance(24 * time.Hour)
		b.atRest()
	}
	b.requireEqual()
	require.Zero(t, b.refusalOf(victim, "query"))
}

func dayOfANewCompany(t *testing.T, victim string, answer answerTo) {
	b := setup(t)
	for i, name := range seenEntities {
		b.create(name)
		if i > 1 { // of the first two a company has one
			b.create(name)
		}
	}
	b.create(victim)
	b.clock.Advance(time.Hour)
	g := b.guard(victim, answer)
	r, reg := b.counted()
	defer run(t, r)()
	b.ticks(1)
	if answer.name != "500" && answer.status != 404 && answer.name != "bare 400" {
		require.Empty(t, b.without(victim), "at once")
	}
	b.ticks(11)
	require.Empty(t, b.without(victim), "within the hour")
	b.ticks(276)
	metered, refused := g.counts()
	t.Logf("%d metered calls, %d refused, %d failed scans", metered, refused, failed(t, reg))
	require.LessOrEqual(t, metered, 40, "%s", strings.Join(g.asked, "\n"))
	require.LessOrEqual(t, refused, 80)
	require.Zero(t, b.deadLetters())
	j, err := b.store.Job(t.Context(), realm)
	require.NoError(t, err)
	require.Equal(t, state.JobDone, j.State, j.Error)
	require.Equal(t, []string{victim}, j.Progress.Refused)
	require.Contains(t, j.Note, victim)
	require.Contains(t, j.Note, answer.says)
	g.set(func(g *gate) { g.victim = "" })
	for range 9 {
		b.clock.Advance(24 * time.Hour)
		b.atRest()
	}
	b.requireEqual()
}

// What only CDC refuses is found by Query, on its turn.
func TestRefuse_ByCDCAlone(t *testing.T) {
	t.Parallel()
	for _, answer := range []answerTo{refusals[1], refusals[6], refusals[7]} {
		t.Run(answer.name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			b.use(b.reconciler(), "Budget")
			stop := run(t, b.reconciler())
			b.rest()
			stop()
			g := b.guard("Budget", answer)
			g.set(func(g *gate) { g.only = func(r *http.Request) bool { return r.URL.Query().Has("entities") } })
			r, reg := b.counted()
			defer run(t, r)()
			b.ticks(288)
			was, _ := g.counts()
			require.LessOrEqual(t, was, 3, "%s", strings.Join(g.asked, "\n"))
			lost := b.create("Budget")
			for day := range 9 {
				b.clock.Advance(24 * time.Hour)
				b.atRest()
				metered, _ := g.counts()
				t.Logf("day %d: %d metered calls", day+2, metered-was)
				require.LessOrEqual(t, metered-was, 3)
				was = metered
			}
			require.True(t, b.has("Budget", lost.ID))
			require.LessOrEqual(t, failed(t, reg), 3)
			require.True(t, b.refusalOf("Budget", "cdc").Lasting)
			require.Zero(t, b.refusalOf("Budget", "query"))
			b.requireEqual()
		})
	}
}

// What is over within minutes is concluded by nobody: the entity is asked for again soon,
// without a call for the others.
func TestRefuse_AMomentIsNotRemembered(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"Budget", "TimeActivity"} {
		for _, answer := range refusals[5:9] {
			t.Run(victim+" "+answer.name, func(t *testing.T) {
				t.Parallel()
				b := quiet(t)
				b.use(b.reconciler(), victim)
				stop := run(t, b.reconciler())
				b.rest()
				stop()
				lost := b.create(victim)
				b.clock.Advance(10 * time.Minute)
				g := b.guard(victim, answer)
				r := b.reconciler()
				for range 4 { // the first three may fail
					report := b.request(r, reconciler.Request{Realms: []string{realm}, Wait: true})
					if len(report.Errors) == 0 {
						require.Equal(t, victim, report.Refused[realm][0].Entity)
						break
					}
				}
				defer run(t, b.reconciler())()
				b.ticks(3)
				require.False(t, b.refusalOf(victim, "query").Lasting)
				g.set(func(g *gate) { g.victim = "" })
				b.ticks(12)
				require.True(t, b.has(victim, lost.ID))
				require.Zero(t, b.refusalOf(victim, "query"))
			})
		}
	}
}

// A refusal of all entities is not one of an entity: nothing is remembered, the scan
// fails, and is repeated less and less often.
func TestRefuse_OfAllEntitiesIsNotOne(t *testing.T) {
	t.Parallel()
	for _, answer := range refusals[4:] {
		if answer.name == "fault in a 200" {
			continue // it says itself that it is about a feature
		}
		t.Run(answer.name, func(t *testing.T) {
			t.Parallel()
			b := quiet(t)
			g := b.guard("", answer)
			g.set(func(g *gate) { g.all = true })
			r, reg := b.counted()
			defer run(t, r)()
			b.clock.Advance(b.config.Interval)
			if slices.Contains([]string{"6190", "403", "401"}, answer.name) {
				b.untilRefused()
			}
			b.atRest()
			b.ticks(288)
			all, err := b.store.Refusals(t.Context(), realm)
			require.NoError(t, err)
			require.Empty(t, all)
			_, refused := g.counts()
			t.Logf("%d refused calls in %d failed scans", refused, failed(t, reg))
			require.LessOrEqual(t, failed(t, reg), 12)
			require.LessOrEqual(t, refused, 100)
			lost := b.create("Invoice")
			g.set(func(g *gate) { g.all = false })
			b.clock.Advance(b.config.Interval)
			require.Eventually(t, func() bool { return b.has("Invoice", lost.ID) }, patient, time.Millisecond)
		})
	}
}

// CDC answers, and then the company is refused: that is none of the entities' either.
func TestRefuse_OfAllQueriesIsNotOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.many("Invoice", 3)
	b.clock.Advance(time.Hour)
	g := b.guard("", refusals[7])
	g.set(func(g *gate) { g.queries = true })
	r := b.reconciler()
	report := b.request(r, reconciler.Request{Realms: []string{realm}})
	require.ErrorContains(t, report.Errors[realm], "3100")
	all, err := b.store.Refusals(t.Context(), realm)
	require.NoError(t, err)
	require.Empty(t, all)
	_, refused := g.counts()
	require.LessOrEqual(t, refused, 12, "it is not asked for each entity")
	g.set(func(g *gate) { g.queries = false })
	b.reconcile(r)
	b.requireEqual()
}

// Several entities are refused at once, by different answers of the API.
func TestRefuse_SeveralEntities(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	victims := []string{"Class", "Department", "Budget", "Vendor", "TimeActivity"}
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		for _, name := range entitiesOf(r) {
			if slices.Contains(victims, name) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(refusals[7].body))
				return
			}
		}
		quickbooks.ServeHTTP(w, r)
	})
	lost := b.create("Invoice")
	r := b.reconciler()
	var report reconciler.Report
	for range 4 {
		b.clock.Advance(time.Hour)
		report = b.reconcile(r)
	}
	var names []string
	for _, one := range report.Refused[realm] {
		names = append(names, one.Entity)
		require.True(t, one.Lasting, one.Entity)
	}
	slices.Sort(victims)
	require.Equal(t, victims, names)
	require.True(t, b.has("Invoice", lost.ID))
	b.clock.Advance(time.Hour)
	b.reconcile(r)
	for _, name := range b.behind() {
		require.Contains(t, victims, name)
	}
}

// An entity that cannot be filtered by time is read as a whole, and is not unknown.
func TestRefuse_AFilterIsNotAnEntity(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Preferences", "TaxAgency"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := loaded(t, 10)
			kept := b.create(name)
			gone := kept
			if name != "Preferences" {
				gone = b.many(name, 3)[1]
			}
			b.clock.Advance(time.Hour)
			g := b.guard(name, answerTo{status: 400, body: faultBody("ValidationFault", "4001", "Invalid query", "QueryValidationError: property 'MetaData.LastUpdatedTime' is not queryable")})
			g.set(func(g *gate) {
				g.only = func(r *http.Request) bool {
					statement := r.URL.Query().Get("query")
					return strings.Contains(statement, " WHERE ") || strings.Contains(statement, "ORDERBY")
				}
			})
			r := b.reconciler()
			b.reconcile(r)
			require.True(t, b.has(name, kept.ID))
			require.Zero(t, b.refusalOf(name, "query"))
			require.Equal(t, "filter", b.refusalOf(name, "filter").Way)
			b.requireEqual()
			require.Empty(t, b.behind())

			b.clock.Advance(time.Hour)
			require.NoError(t, b.sim.Update(kept, nil))
			if name != "Preferences" {
				b.delete(gone)
			}
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			b.requireEqual()
			require.Empty(t, b.behind())
		})
	}
}

// Where COUNT alone is refused, the entity is loaded and scanned, and a sweep finds what was
// deleted; COUNT is asked for once a week.
func TestRefuse_ACountIsNotAnEntity(t *testing.T) {
	t.Parallel()
	onlyCounts := func(g *gate) {
		g.only = func(r *http.Request) bool { return strings.HasPrefix(r.URL.Query().Get("query"), "SELECT COUNT(*)") }
	}
	for _, answer := range refusals {
		if answer.status == 404 || answer.name == "500" || answer.name == "bare 400" {
			continue // a moment's, for all that one response tells
		}
		t.Run("by CDC "+answer.name, func(t *testing.T) {
			t.Parallel()
			b, r := loaded(t, 0)
			kept, gone := b.many("Vendor", 12), b.create("Vendor")
			b.clock.Advance(time.Hour)
			b.reconcile(r)
			g := &gate{victim: "Vendor", answer: answer}
			onlyCounts(g)
			b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
				if !strings.HasSuffix(r.URL.Path, "/cdc") {
					g.serve(w, r, quickbooks)
					return
				}
				answer := httptest.NewRecorder()
				quickbooks.ServeHTTP(answer, r)
				_, _ = w.Write(withoutDeletions(answer.Body.Bytes()))
			})
			r = b.reconciler()
			b.clock.Advance(24 * time.Hour)
			b.delete(gone)
			b.untilNoted(r, 1)
			b.clock.Advance(16 * time.Minute)
			b.scheduled(r)
			require.True(t, b.gone(gone))
			for _, ref := range kept {
				require.False(t, b.gone(ref))
			}
			require.Zero(t, b.refusalOf("Vendor", "query"))
			require.NotZero(t, b.refusalOf("Vendor", "count"))
		})
	}
	t.Run("by Query", func(t *testing.T) {
		t.Parallel()
		b, _ := loaded(t, 0)
		all := b.many("TimeActivity", 600) // more than are read as a whole
		g := b.guard("TimeActivity", refusals[1])
		g.set(onlyCounts)
		r := b.reconciler()
		b.clock.Advance(time.Hour)
		b.reconcile(r)
		b.requireEqual()
		b.delete(all[7])
		for range 2 {
			b.clock.Advance(8 * 24 * time.Hour)
			b.reconcile(r)
		}
		require.True(t, b.gone(all[7]))
		require.Empty(t, b.behind())
		require.Zero(t, b.refusalOf("TimeActivity", "query"))
		require.NotZero(t, b.refusalOf("TimeActivity", "count"))
		_, refused := g.counts()
		require.LessOrEqual(t, refused, 4, "once a week")

		// COUNT is served by now.
		g.set(func(g *gate) { g.victim = "" })
		b.clock.Advance(8 * 24 * time.Hour)
		b.reconcile(r)
		b.requireEqual()
		require.Zero(t, b.refusalOf("TimeActivity", "count"))
	})
	t.Run("not in use", func(t *testing.T) {
		t.Parallel()
		b := quiet(t)
		g := b.guard("TaxPayment", refusals[1])
		g.set(onlyCounts)
		defer run(t, b.reconciler())()
		days := func(most int) {
			for range 20 {
				was, _ := g.counts()
				for range 3 {
					b.clock.Advance(8 * time.Hour)
					b.atRest()
				}
				now, _ := g.counts()
				require.LessOrEqual(t, now-was, most)
			}
		}
		days(3)
		require.Zero(t, b.refusalOf("TaxPayment", "query"))
		require.NotZero(t, b.refusalOf("TaxPayment", "count"))
		ref := b.create("TaxPayment")
		days(10) // on one of them it is found and read
		require.True(t, b.has("TaxPayment", ref.ID))
	})
}

// A name list whose Active cannot be filtered is read without it, with each scan. Since its
// inactive records may be hidden then, none of them is taken for deleted.
func TestRefuse_TheFilterByActive(t *testing.T) {
	t.Parallel()
	b, _ := loaded(t, 10)
	hidden, kept := b.create("CustomerType"), b.create("CustomerType")
	b.clock.Advance(time.Hour)
	b.reconcile(b.reconciler())
	versionOf := func(ref qbosim.Ref) int64 {
		return b.feed.versions("ledger", b.realm)[state.Ref{Entity: ref.Entity, ID: ref.ID}]
	}
	was := versionOf(hidden)
	g := b.guard("CustomerType", answerTo{status: 400, body: faultBody("ValidationFault", "4001", "Invalid query", "QueryValidationError: property 'Active' is not queryable")})
	g.set(func(g *gate) {
		g.only = func(r *http.Request) bool { return strings.Contains(r.URL.Query().Get("query"), "Active") }
	})
	require.NoError(t, b.sim.Update(hidden, map[string]any{"Active": false}))
	r := b.reconciler()
	for range 3 {
		require.NoError(t, b.sim.Update(kept, nil))
		b.clock.Advance(24 * time.Hour)
		report := b.reconcile(r)
		require.Empty(t, report.Errors)
		require.Empty(t, report.Refused)
		require.Zero(t, b.refusalOf("CustomerType", "query"))
		require.Equal(t, b.sim.Truth(b.realm)[kept].Version, versionOf(kept))
		require.Equal(t, was, versionOf(hidden), "no tombstone")
	}
}

// Within one second QuickBooks promises no order: what is read by offset is counted.
func TestScan_RecordsOfOneSecondInAnyOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2300 {
		b.create("Bill")
	}
	b.clock.Advance(time.Hour)
	var shuffled atomic.Int64
	b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
		statement := r.URL.Query().Get("query")
		if strings.Contains(statement, "ORDERBY Id") {
			t.Errorf("depends on the order of ids: %s", statement)
		}
		if shuffled.Load() < 2 && strings.Contains(statement, "MetaData.LastUpdatedTime <") && strings.Contains(statement, "STARTPOSITION 1000") {
			// A row of the page before comes again, in place of one of this page.
			shuffled.Add(1)
			q := r.URL.Query()
			page := rowsOf(t, quickbooks, r)
			q.Set("query", strings.NewReplacer("STARTPOSITION 1000", "STARTPOSITION 1", "MAXRESULTS 1000", "MAXRESULTS 1").Replace(statement))
			r.URL.RawQuery = q.Encode()
			page.QueryResponse.Bill[1] = rowsOf(t, quickbooks, r).QueryResponse.Bill[0]
			if err := json.NewEncoder(w).Encode(page); err != nil {
				t.Errorf("answer: %v", err)
			}
			return
		}
		quickbooks.ServeHTTP(w, r)
	})
	b.reconcile(b.reconciler())
	require.Equal(t, int64(2), shuffled.Load())
	b.requireEqual()
	require.Empty(t, b.behind())
}

// page is an answer to a Query of bills.
type page struct {
	QueryResponse struct{ Bill []json.RawMessage }
	Time          string `json:"time"`
}

func rowsOf(t *testing.T, quickbooks http.Handler, r *http.Request) (answer page) {
	t.Helper()
	recorded := httptest.NewRecorder()
	quickbooks.ServeHTTP(recorded, r)
	if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
		t.Errorf("answer: %v", err)
	}
	return answer
}

// The cursor of a refused entity stays, and is no sign of a company that is not scanned.
func TestRefuse_TheCursorAgeLeavesItOut(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	b.guard("Budget", refusals[1])
	r, reg := b.counted()
	defer run(t, r)()
	before := b.cursors()["Budget"]
	for range 12 {
		b.clock.Advance(b.config.Interval)
		b.atRest()
		require.LessOrEqual(t, cursorAge(t, reg), 15*24*time.Hour)
	}
	require.Equal(t, before, b.cursors()["Budget"])
	other, reg := b.counted()
	b.request(other, reconciler.Request{Realms: []string{realm}})
	require.Less(t, cursorAge(t, reg), 9*24*time.Hour, "another process knows it, too")
}

// A failed scan is repeated after five minutes, then less often, up to the interval.
func TestSchedule_FailedScansBackOff(t *testing.T) {
	t.Parallel()
	b := quiet(t)
	b.between(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	defer run(t, b.reconciler())()
	b.clock.Advance(b.config.Interval)
	var waits []time.Duration
	for range 11 {
		b.atRest()
		wait := b.due().Sub(b.clock.Now())
		waits = append(waits, wait.Round(time.Minute))
		b.clock.Advance(wait + time.Second)
	}
	require.Empty(t, cmp.Diff([]time.Duration{
		5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 160 * time.Minute,
		320 * time.Minute, 640 * time.Minute, 1280 * time.Minute, 24 * time.Hour, 24 * time.Hour,
	}, waits))
}
