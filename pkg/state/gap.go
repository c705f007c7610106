package state

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxGaps is how many records of a realm the ledger of gaps holds, those of which one
// was found last; of each its latest eight gaps.
const MaxGaps = 300

// gapsKept is how long the ledger of a realm stays after its last gap.
const gapsKept = 90 * 24 * time.Hour

// Verdicts on a gap: why no webhook told of the change first, as far as can be known.
const (
	// VerdictLost: webhooks of that kind do come, this one did not.
	VerdictLost = "lost"
	// VerdictLate: the webhook came after all.
	VerdictLate = "late"
	// VerdictOutage: the ingress or the broker could not take webhooks when it happened.
	VerdictOutage = "ingress-outage"
	// VerdictNotSelected: webhooks do come, but not of that entity and operation in any
	// realm for a month: it is probably not ticked in Intuit's portal.
	VerdictNotSelected = "not-selected"
	// VerdictDeselected: webhooks of that entity and operation came once, and do no more
	// in several realms, while others do: see [Store.Deselected].
	VerdictDeselected = "deselected"
	// VerdictNoWebhooks: Intuit offers none for the entity, or the operation.
	VerdictNoWebhooks = "no-webhooks"
	// VerdictBeforeConnection: Intuit sends none for what was before.
	VerdictBeforeConnection = "before-connection"
	// VerdictLapsed: the realm's authorisation had lapsed, so none were sent.
	VerdictLapsed = "authorisation-lapsed"
	// VerdictRestored: a sink held a tombstone of it that was wrong.
	VerdictRestored = "restored"
)

// Verdicts are all of them.
func Verdicts() []string {
	return []string{
		VerdictLost, VerdictLate, VerdictOutage, VerdictNotSelected, VerdictDeselected, VerdictNoWebhooks, VerdictBeforeConnection, VerdictLapsed, VerdictRestored,
	}
}

// Gap is a change that a scan found before any webhook told of it.
type Gap struct {
	Realm string `json:"realm"`
	Ref
	// Version is of the change as the scan saw it.
	Version int64 `json:"version"`
	// Found is when the scan found it, in milliseconds by our clock.
	Found time.Time `json:"found"`
	// Event is when it happened, in seconds by Intuit's clock; zero if QuickBooks did
	// not say. When a record was deleted may be known only roughly.
	Event time.Time `json:"event,omitzero"`
	// Operation is create, update or delete: a scan cannot tell a void or an e-mailing
	// from an update.
	Operation string `json:"operation"`
	// Source is how it was found: cdc, query, or restored.
	Source  string `json:"source"`
	Verdict string `json:"verdict"`
	// Late is when its webhook came after all; zero if it did not.
	Late time.Time `json:"late,omitzero"`
	// Derived: only derived fields moved, such as a balance. Whether a webhook is due for
	// that is not known, so it speaks for no deselection. It is not stored.
	Derived bool `json:"-"`
}

// speaks reports whether the gap is evidence that webhooks of its kind are not sent.
func (g Gap) speaks() bool {
	return (g.Verdict == VerdictLost || g.Verdict == VerdictDeselected) && !g.Derived && !g.Event.IsZero()
}

// Due reports whether a webhook should have told of the change: only then it counts
// against the coverage.
func (g Gap) Due() bool {
	switch g.Verdict {
	case VerdictNoWebhooks, VerdictBeforeConnection, VerdictLapsed, VerdictRestored:
		return false
	}
	return true
}

var (
	//go:embed gap_note.lua
	gapNoteLua    string
	gapNoteScript = redis.NewScript(tallyLua + gapNoteLua)
)

// NoteGaps puts gaps into their realm's ledger and counts them, and returns those that
// were not in it already: a scan that is repeated finds the same ones again.
func (s *Store) NoteGaps(ctx context.Context, realm string, gaps []Gap) (fresh []Gap, err error) {
	for rest := gaps; len(rest) > 0; {
		n := min(len(rest), batch)
		noted, err := s.noteGaps(ctx, realm, rest[:n])
		if err != nil {
			return fresh, fmt.Errorf("record %d gaps of realm %s: %w", len(gaps), realm, err)
		}
		for _, i := range noted {
			fresh = append(fresh, rest[i])
		}
		rest = rest[n:]
	}
	return fresh, nil
}

func (s *Store) noteGaps(ctx context.Context, realm string, gaps []Gap) ([]int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args := make([]any, 0, 3+3*len(gaps))
	args = append(args, weeksKept.Milliseconds(), gapsKept.Milliseconds(), MaxGaps)
	for _, g := range gaps {
		counted := ""
		if g.Due() {
			counted = Kind{g.Entity, g.Operation}.field()
		}
		args = append(args, pairField(g.Entity, g.ID), counted, g.text())
	}
	keys := []string{Key("gaps", realm), weekKey(realm, s.now())}
	return gapNoteScript.Run(ctx, s.db, keys, args...).Int64Slice()
}

// text is a line of the value: see gap_note.lua and sight.lua.
func (g Gap) text() string {
	return fmt.Sprintf("%d %d %d %s %s %s %d", g.Version, g.Found.UnixMilli(), max(seconds(g.Event), 0), word(g.Source), word(g.Verdict), word(g.Operation), millis(g.Late))
}

func seconds(t time.Time) int64 { return millis(t) / 1000 }

// word is one that the line can be taken apart at.
func word(s string) string { return cmp.Or(strings.Join(strings.Fields(s), "-"), "-") }

func parseGap(realm, record, line string) (Gap, error) {
	g := Gap{Realm: realm}
	g.Entity, g.ID = pairOf(record)
	f := strings.Fields(line)
	if len(f) != 7 {
		return g, fmt.Errorf("gap of %s %s: %q", g.Entity, g.ID, line)
	}
	var n [4]int64
	for i, at := range []int{0, 1, 2, 6} {
		var err error
		if n[i], err = strconv.ParseInt(f[at], 10, 64); err != nil {
			return g, fmt.Errorf("gap of %s %s: %w", g.Entity, g.ID, err)
		}
	}
	g.Version, g.Found, g.Event, g.Late = n[0], fromMillis(n[1]), fromMillis(1000*n[2]), fromMillis(n[3])
	g.Source, g.Verdict, g.Operation = f[3], f[4], f[5]
	return g, nil
}

// Gaps returns the latest n gaps of a realm, those found last first.
func (s *Store) Gaps(ctx context.Context, realm string, n int) ([]Gap, error) {
	if n <= 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	held, err := s.db.HGetAll(ctx, Key("gaps", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read gaps of realm %s: %w", realm, err)
	}
	gaps := make([]Gap, 0, len(held))
	for record, lines := range held {
		for line := range strings.SplitSeq(lines, "\n") {
			g, err := parseGap(realm, record, line)
			if err != nil {
				return nil, fmt.Errorf("read gaps of realm %s: %w", realm, err)
			}
			gaps = append(gaps, g)
		}
	}
	slices.SortFunc(gaps, func(a, b Gap) int {
		return cmp.Or(b.Found.Compare(a.Found), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.ID, b.ID), cmp.Compare(b.Version, a.Version))
	})
	return gaps[:min(n, len(gaps))], nil
}

// RealmTime is a realm and when something happened there.
type RealmTime struct {
	Realm string
	At    time.Time // milliseconds
}

// GapRealms returns up to n realms in which scans found gaps since then, those found
// last first.
func (s *Store) GapRealms(ctx context.Context, since time.Time, n int) ([]RealmTime, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	zs, err := s.db.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
		Key: gapRealmsKey, ByScore: true, Rev: true, Start: "+inf", Stop: millis(since), Count: int64(n),
	}).Result()
	if err != nil {
		return nil, fmt.Errorf("list realms with gaps: %w", err)
	}
	realms := make([]RealmTime, len(zs))
	for i, z := range zs {
		realms[i] = RealmTime{z.Member.(string), fromMillis(int64(z.Score))}
	}
	return realms, nil
}

// LastTold returns when a webhook last told of a change of each realm first, zero if
// none ever did, in the order of realms.
func (s *Store) LastTold(ctx context.Context, realms []string) ([]time.Time, error) {
	if len(realms) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	scores, err := s.db.ZMScore(ctx, toldRealmsKey, realms...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the times of the last webhooks: %w", err)
	}
	times := make([]time.Time, len(scores))
	for i, score := range scores {
		times[i] = fromMillis(int64(score))
	}
	return times, nil
}
