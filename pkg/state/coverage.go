package state

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
	// Weeks is how many weeks of a realm's counts are kept, this one included; Days how
	// many days of those over all realms.
	Weeks = 5
	Days  = 31

	weeksKept = Weeks * week
	daysKept  = Days * day
)

// The keys over all realms share a slot.
const (
	heardKey      = durable + "heard:{app}"
	toldRealmsKey = durable + "told:{app}"
	gapRealmsKey  = durable + "gapped:{app}"
)

func dayKey(t time.Time) string { return durable + "cover:{app}:" + t.UTC().Format(time.DateOnly) }

func weekKey(realm string, t time.Time) string {
	return Key("cover", realm) + ":" + strconv.FormatInt(weekOf(t), 10)
}

func weekOf(t time.Time) int64 { return t.Unix() / int64(week/time.Second) }

var (
	//go:embed cover.lua
	coverLua    string
	coverScript = redis.NewScript(tallyLua + coverLua)
)

// Kind is an entity and what is done to it: create, update, delete, merge, void or
// emailed. Entity is empty in the counts of verdicts, whose Operation is the verdict.
type Kind struct {
	Entity, Operation string
}

func (k Kind) field() string { return pairField(k.Entity, k.Operation) }

// Coverage is how changes became known, by kind.
type Coverage map[Kind]Tally

// Add adds to the counts of a kind.
func (c Coverage) Add(k Kind, t Tally) {
	held := c[k]
	held.Add(t)
	c[k] = held
}

// Merge adds all counts of o.
func (c Coverage) Merge(o Coverage) {
	for k, t := range o {
		c.Add(k, t)
	}
}

// Kinds are those counted, sorted, without the verdicts.
func (c Coverage) Kinds() []Kind {
	kinds := slices.SortedFunc(maps.Keys(c), func(a, b Kind) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Operation, b.Operation))
	})
	return slices.DeleteFunc(kinds, func(k Kind) bool { return k.Entity == "" })
}

// Total is the sum over all kinds.
func (c Coverage) Total() Tally {
	var all Tally
	for k, t := range c {
		if k.Entity != "" {
			all.Add(t)
		}
	}
	return all
}

// Verdicts are how many gaps were found with each verdict. One whose webhook came later
// stays among those of the verdict it had.
func (c Coverage) Verdicts() map[string]int64 {
	verdicts := map[string]int64{}
	for k, t := range c {
		if k.Entity == "" {
			verdicts[k.Operation] += t.Gaps
		}
	}
	return verdicts
}

// totals is what is added to the counts over all realms at once.
type totals struct {
	counts       Coverage
	heard        map[Kind]time.Time
	told, gapped map[string]time.Time // by realm
	live         map[int64]bool       // spans in which webhooks' events happened
	unheard      []unheard
}

func newTotals() totals {
	return totals{counts: Coverage{}, heard: map[Kind]time.Time{}, told: map[string]time.Time{}, gapped: map[string]time.Time{}, live: map[int64]bool{}}
}

func (s *Store) addTotals(ctx context.Context, t totals) error {
	if len(t.counts)+len(t.heard)+len(t.told)+len(t.gapped) == 0 {
		return nil
	}
	if err := s.noteUnheard(ctx, t.live, t.unheard); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	args := []any{daysKept.Milliseconds(), len(t.counts)}
	for k, n := range t.counts {
		args = append(args, k.field(), n.text())
	}
	args = append(args, len(t.heard))
	for k, at := range t.heard {
		args = append(args, k.field(), millis(at))
	}
	for _, realms := range []map[string]time.Time{t.told, t.gapped} {
		args = append(args, len(realms))
		for realm, at := range realms {
			args = append(args, realm, millis(at))
		}
	}
	keys := []string{dayKey(s.now()), heardKey, toldRealmsKey, gapRealmsKey}
	if err := coverScript.Run(ctx, s.db, keys, args...).Err(); err != nil {
		return fmt.Errorf("count over all realms: %w", err)
	}
	return nil
}

// CountGaps counts gaps that NoteGaps called new over all realms: by verdict, and by
// kind those that a webhook should have told of. first says of which kinds the scan had
// found none before.
func (s *Store) CountGaps(ctx context.Context, realm string, gaps []Gap, first map[Kind]bool) error {
	t := newTotals()
	for _, g := range gaps {
		t.counts.Add(Kind{"", g.Verdict}, Tally{Gaps: 1})
		if g.Found.After(t.gapped[realm]) {
			t.gapped[realm] = g.Found
		}
		if !g.Due() {
			continue
		}
		k := Kind{g.Entity, g.Operation}
		if g.speaks() {
			t.unheard = append(t.unheard, unheard{k, realm, span(g.Event)})
		}
		n := Tally{Gaps: 1}
		if first[k] {
			n.Scans = 1
			delete(first, k)
		}
		t.counts.Add(k, n)
	}
	return s.addTotals(ctx, t)
}

// Heard returns when a webhook of each kind last came to any realm, by the event's own
// time.
func (s *Store) Heard(ctx context.Context) (map[Kind]time.Time, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, heardKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the received webhooks: %w", err)
	}
	heard := make(map[Kind]time.Time, len(fields))
	for field, text := range fields {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the received webhooks: %s: %w", field, err)
		}
		entity, operation := pairOf(field)
		heard[Kind{entity, operation}] = fromMillis(ms)
	}
	return heard, nil
}

// DailyCoverage returns the counts over all realms of the last n days, today first;
// verdicts of gaps are among them, under no entity. It costs the same however many
// realms there are.
func (s *Store) DailyCoverage(ctx context.Context, n int) ([]Coverage, error) {
	now := s.now()
	keys := make([]string, min(n, Days))
	for i := range keys {
		keys[i] = dayKey(now.AddDate(0, 0, -i))
	}
	c, err := s.coverage(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	return c, nil
}

// WeeklyCoverage returns the counts of a realm of the last n weeks, this one first.
// Weeks begin on Thursdays at midnight UTC.
func (s *Store) WeeklyCoverage(ctx context.Context, realm string, n int) ([]Coverage, error) {
	now := s.now()
	keys := make([]string, min(n, Weeks))
	for i := range keys {
		keys[i] = weekKey(realm, now.Add(-time.Duration(i)*week))
	}
	c, err := s.coverage(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read coverage of realm %s: %w", realm, err)
	}
	return c, nil
}

func (s *Store) coverage(ctx context.Context, keys []string) ([]Coverage, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	reads := make([]*redis.MapStringStringCmd, len(keys))
	pipe := s.db.Pipeline()
	for i, key := range keys {
		reads[i] = pipe.HGetAll(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	all := make([]Coverage, len(keys))
	for i, read := range reads {
		all[i] = Coverage{}
		for field, text := range read.Val() {
			t, err := parseTally(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", field, err)
			}
			entity, operation := pairOf(field)
			all[i].Add(Kind{entity, operation}, t)
		}
	}
	return all, nil
}
