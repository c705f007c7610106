// Package diagnosis reads the counts of coverage and the ledgers of gaps and says in
// sentences what is wrong with the webhooks of an app, and what to do about it.
//
// It guarantees that looking costs a few reads of Redis, whatever the number of realms:
// what holds for the app comes from counts over all realms, and of single realms only
// those are looked at in which scans found gaps of late. It changes nothing.
//
// It does not look at a change itself: a finding is about many, and says on how many
// it rests. Below the thresholds it is silent.
package diagnosis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// What a finding may be about.
const (
	// NotSelected: an entity and operation of which no webhook ever came, to any realm.
	NotSelected = "not-selected"
	// Deselected: one of which none comes any more, while others do, in several realms.
	Deselected = "deselected"
	// Ceased: one of which none comes any more.
	Ceased = "ceased"
	// Silent: a realm that changes and is not told of.
	Silent = "silent-realm"
	// Fell: an entity and operation of which fewer changes are told of than before.
	Fell = "coverage-fell"
	// Lossy: kinds that do come, and not for every change, all along.
	Lossy = "lossy"
	// Slow: webhooks that come late.
	Slow = "slow"
	// AppRefused: Intuit refuses the app, so that nothing of any realm is read.
	AppRefused = "app-refused"
	// NoWebhooks: no webhook ever came to any realm.
	NoWebhooks = "no-webhooks-at-all"
)

// Severities, the worst first.
const (
	Error   = "error"   // changes are late by up to a scan's interval, and a person must act
	Warning = "warning" // a person should look
)

// Issue is one thing that is wrong.
type Issue struct {
	Kind     string `json:"kind"`
	Severity string `json:"severity"`
	// Text says what is so, in one sentence; Advice says what to do.
	Text   string `json:"text"`
	Advice string `json:"advice"`
	// Realm, Entity and Operation are what it is about, as far as it is about one.
	Realm     string `json:"realm,omitempty"`
	Company   string `json:"company,omitempty"`
	Entity    string `json:"entity,omitempty"`
	Operation string `json:"operation,omitempty"`
	// Since is from when on it is so; zero if it always was.
	Since time.Time `json:"since,omitzero"`
	// Gaps are the changes that scans found first, Scans the scans that found some, and
	// Told those that webhooks told of first, all within the Days it rests on.
	Gaps  int64 `json:"gaps"`
	Scans int64 `json:"scans,omitempty"`
	Told  int64 `json:"told"`
	Days  int   `json:"days"`
}

// The thresholds.
const (
	recentDays = 7
	// A kind that never comes is told from a few lost ones by at least so many gaps, of
	// so many scans.
	leastGaps, leastScans = 3, 2
	// A fall is one of at least this share, and rests on at least so many changes.
	leastFall, leastChanges = 0.05, 20
	// leastLoss is the share of lost ones that is worth a look, of leastChanges or more.
	leastLoss = 0.02
	// silentAfter is how long a realm with gaps may go without a webhook.
	silentAfter = 3 * 24 * time.Hour
	// slowLag is what most webhooks should be faster than.
	slowLag = 10 * time.Minute
	// maxRealms is how many realms are looked at, those with the latest gaps.
	maxRealms = 200
	// maxSilent is how many of them are named.
	maxSilent = 20
)

// Look returns what is wrong, the worst first.
func Look(ctx context.Context, store *state.Store, now time.Time) ([]Issue, error) {
	days, err := store.DailyCoverage(ctx, state.Days)
	if err != nil {
		return nil, err
	}
	heard, err := store.Heard(ctx)
	if err != nil {
		return nil, err
	}
	deselected, err := store.Deselected(ctx)
	if err != nil {
		return nil, err
	}
	l := look{now: now, deselected: deselected, heard: heard, recent: state.Coverage{}, before: state.Coverage{}, month: state.Coverage{}}
	for i, c := range days {
		l.month.Merge(c)
		if i < recentDays {
			l.recent.Merge(c)
		} else {
			l.before.Merge(c)
		}
	}
	if err := l.apps(ctx, store); err != nil {
		return nil, err
	}
	if l.deaf() {
		return l.found, nil // each kind of its own would say the same again
	}
	l.kinds()
	l.lossy()
	if err := l.realms(ctx, store); err != nil {
		return nil, err
	}
	slices.SortStableFunc(l.found, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(rank(a.Severity), rank(b.Severity)), cmp.Compare(b.Gaps, a.Gaps))
	})
	return l.found, nil
}

func rank(severity string) int {
	if severity == Error {
		return 0
	}
	return 1
}

// look is one under way.
type look struct {
	now                   time.Time
	heard                 map[state.Kind]time.Time
	recent, before, month state.Coverage
	deselected            map[state.Kind]state.Deselection
	found                 []Issue
}

// apps looks for those that Intuit refuses.
func (l *look) apps(ctx context.Context, store *state.Store) error {
	problems, err := store.AppProblems(ctx)
	for _, p := range problems {
		text, remedy := access.Explain(p)
		l.add(Issue{Kind: AppRefused, Severity: Error, Since: p.Since, Text: text + ".", Advice: "To fix it, " + remedy + "."})
	}
	return err
}

// deaf reports whether no webhook ever came.
func (l *look) deaf() bool {
	total := l.month.Total()
	if len(l.heard) > 0 || total.Gaps < leastGaps {
		return false
	}
	l.add(Issue{
		Kind: NoWebhooks, Severity: Error, Gaps: total.Gaps, Scans: total.Scans, Days: state.Days,
		Text:   fmt.Sprintf("No webhook has ever come, in any realm: all of %d changes were found by scans.", total.Gaps),
		Advice: "In Intuit's developer portal, under Webhooks, enter the URL of the ingress (https://HOST/webhooks/APP), select the entities, and send a test event.",
	})
	return true
}

func (l *look) kinds() {
	for _, k := range l.month.Kinds() {
		recent, month := l.recent[k], l.month[k]
		last, ever := l.heard[k]
		silent := month.Told+month.Late == 0
		if d, ok := l.deselected[k]; ok {
			l.deselection(d)
			continue
		}
		switch {
		case silent && !ever && month.Gaps >= leastGaps && month.Scans >= leastScans:
			l.add(Issue{
				Kind: NotSelected, Severity: Error, Entity: k.Entity, Operation: k.Operation,
				Gaps: month.Gaps, Scans: month.Scans, Days: state.Days,
				Text: fmt.Sprintf("%s %ss never come by webhook in any realm: %d were found by scans.", k.Entity, k.Operation, month.Gaps),
				Advice: fmt.Sprintf("Select %s / %s in Intuit's developer portal, under Webhooks. Until then they are as late as the scans; reconciler.interval bounds that.",
					k.Entity, title(k.Operation)),
			})
		case recent.Told+recent.Late == 0 && ever && recent.Gaps >= leastGaps && recent.Scans >= leastScans:
			l.add(Issue{
				Kind: Ceased, Severity: Error, Entity: k.Entity, Operation: k.Operation, Since: last,
				Gaps: recent.Gaps, Scans: recent.Scans, Told: recent.Told, Days: recentDays,
				Text: fmt.Sprintf("%s %ss come by webhook no more: the last was of %s, and %d were found by scans in %d days.",
					k.Entity, k.Operation, day(last), recent.Gaps, recentDays),
				Advice: fmt.Sprintf("Look whether %s / %s is still selected in Intuit's developer portal, under Webhooks.", k.Entity, title(k.Operation)),
			})
		default:
			l.fell(k)
		}
		l.slow(k)
	}
}

func (l *look) deselection(d state.Deselection) {
	recent := l.recent[d.Kind]
	l.add(Issue{
		Kind: Deselected, Severity: Error, Entity: d.Entity, Operation: d.Operation, Since: d.Since,
		Gaps: int64(d.Changes), Scans: recent.Scans, Told: recent.Told, Days: recentDays,
		Text: fmt.Sprintf("%s %ss are not selected since %s: that was the last webhook of one, and scans found %d in %d realms since, while webhooks of other kinds came.",
			d.Entity, d.Operation, d.Since.UTC().Format(time.DateTime), d.Changes, d.Realms),
		Advice: fmt.Sprintf("Select %s / %s again in Intuit's developer portal, under Webhooks. Until then they are as late as the scans; reconciler.interval bounds that.",
			d.Entity, title(d.Operation)),
	})
}

// fell compares the last days with those before.
func (l *look) fell(k state.Kind) {
	recent, before := l.recent[k], l.before[k]
	if recent.Told+recent.Gaps < leastChanges || before.Told+before.Gaps < leastChanges ||
		before.Coverage()-recent.Coverage() < leastFall {
		return
	}
	l.add(Issue{
		Kind: Fell, Severity: Warning, Entity: k.Entity, Operation: k.Operation,
		Gaps: recent.Gaps, Scans: recent.Scans, Told: recent.Told, Days: recentDays,
		Text: fmt.Sprintf("Webhook coverage of %s %ss fell to %s in the last %d days, from %s before: scans found %d first.",
			k.Entity, k.Operation, percent(recent.Coverage()), recentDays, percent(before.Coverage()), recent.Gaps),
		Advice: fmt.Sprintf("See why: ledgerfeed gap ls --entity %s --since %dd. Outages of the ingress show there as ingress-outage.", k.Entity, recentDays),
	})
}

// lossy is about all kinds that do come, where coverage is as bad as it always was.
func (l *look) lossy() {
	if slices.ContainsFunc(l.found, func(f Issue) bool { return f.Kind == Fell }) {
		return // it says the same, and of what
	}
	var told, gaps, scans int64
	for _, k := range l.recent.Kinds() {
		if _, deselected := l.deselected[k]; deselected {
			continue // it has a finding that says why
		}
		if c := l.recent[k]; c.Told+c.Late > 0 {
			told, gaps, scans = told+c.Told, gaps+c.Gaps, scans+c.Scans
		}
	}
	share := float64(gaps) / float64(max(1, told+gaps))
	if gaps < leastChanges || share < leastLoss {
		return
	}
	l.add(Issue{
		Kind: Lossy, Severity: Warning, Gaps: gaps, Scans: scans, Told: told, Days: recentDays,
		Text: fmt.Sprintf("Webhooks get lost: of %d changes in the last %d days, webhooks announced %s first, and scans found %d.",
			told+gaps, recentDays, percent(1-share), gaps),
		Advice: "Run ledgerfeed doctor --public-url from outside of your network, and look for answers that are not 200 and slower than 3 s; ledgerfeed gap ls names the changes and why.",
	})
}

func (l *look) slow(k state.Kind) {
	recent := l.recent[k]
	if recent.Lags.Count() < leastChanges || recent.Lags.Quantile(0.5) <= slowLag {
		return
	}
	l.add(Issue{
		Kind: Slow, Severity: Warning, Entity: k.Entity, Operation: k.Operation, Gaps: recent.Gaps, Told: recent.Told, Days: recentDays,
		Text: fmt.Sprintf("Webhooks of %s %ss come late: half of %d took longer than %s to reach the ingress.",
			k.Entity, k.Operation, recent.Lags.Count(), slowLag),
		Advice: "Intuit resends after up to 6 hours what was not answered 200 within 3 s, and holds back what follows: look for answers that are not 200 (ledgerfeed_ingress_…) and for outages.",
	})
}

// realms looks at those in which scans found gaps of late.
func (l *look) realms(ctx context.Context, store *state.Store) error {
	gapped, err := store.GapRealms(ctx, l.now.Add(-recentDays*24*time.Hour), maxRealms)
	if err != nil || len(gapped) == 0 {
		return err
	}
	names := make([]string, len(gapped))
	for i, r := range gapped {
		names[i] = r.Realm
	}
	told, err := store.LastTold(ctx, names)
	if err != nil {
		return err
	}
	companies, err := store.CompanyNames(ctx, names)
	if err != nil {
		return err
	}
	silent := 0
	for i, realm := range names {
		if l.now.Sub(told[i]) < silentAfter || silent == maxSilent {
			continue
		}
		found, err := l.silent(ctx, store, realm, companies[realm], told[i])
		if err != nil {
			return err
		}
		if found {
			silent++
		}
	}
	return nil
}

// silent reports a realm whose changes of kinds that do come elsewhere are found by
// scans alone.
func (l *look) silent(ctx context.Context, store *state.Store, realm, company string, told time.Time) (bool, error) {
	gaps, err := store.Gaps(ctx, realm, state.MaxGaps)
	if err != nil {
		return false, err
	}
	n := int64(0)
	for _, g := range gaps {
		if g.Verdict == state.VerdictLost && g.Event.After(told) && l.now.Sub(g.Found) < recentDays*24*time.Hour {
			n++
		}
	}
	if n < leastGaps {
		return false, nil
	}
	who := realm
	if company != "" {
		who += " (" + company + ")"
	}
	f := Issue{
		Kind: Silent, Severity: Error, Realm: realm, Company: company, Since: told, Gaps: n, Days: recentDays,
		Text: fmt.Sprintf("Realm %s has had no webhook since %s: scans found %d changes there that other realms get webhooks for.", who, day(told), n),
		Advice: "Look whether the company is still connected to this app and not to another one of yours (development, production): " +
			"webhooks go to the app that holds the connection. Connecting it again fixes it.",
	}
	if told.IsZero() {
		f.Text = fmt.Sprintf("Realm %s has never had a webhook: scans found %d changes there that other realms get webhooks for.", who, n)
	}
	l.add(f)
	return true, nil
}

func (l *look) add(f Issue) { l.found = append(l.found, f) }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// title is an operation as the portal spells it.
func title(operation string) string {
	if operation == "" {
		return ""
	}
	return string(operation[0]-'a'+'A') + operation[1:]
}
