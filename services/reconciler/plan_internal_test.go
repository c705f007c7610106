package reconciler

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// What only Query can find is asked for on its turn, once an interval, and counted in
// every second one if it is not used; where our clock is
// behind Intuit's, so that nobody knows when that was, with each scan.
func TestPlan_WhenQueryIsAsked(t *testing.T) {
	const name = "TimeActivity"
	now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	r := &Reconciler{config: DefaultReconcilerConfig(), now: func() time.Time { return now }}
	turn, count := r.lastTurn("1", name, now, 7*day), r.lastTurn("1", name, now, 14*day)
	require.WithinRange(t, turn, now.Add(-7*24*time.Hour), now)
	before, after := turn.Add(-margin-time.Second), turn.Add(-margin+time.Second)
	beforeCount, afterCount := count.Add(-margin-time.Second), count.Add(-margin+time.Second)
	used := map[string]state.EntityUse{name: {Used: true}}
	found := map[string]state.EntityUse{name: {Used: true, Counted: turn}}
	for _, tc := range []struct {
		name   string
		cursor time.Time
		use    map[string]state.EntityUse
		order  order
		want   string
	}{
		{"never loaded", time.Time{}, nil, order{}, "load"},
		{"just scanned", now.Add(-margin), used, order{}, ""},
		{"since its turn", after, used, order{}, ""},
		{"before its turn", before, used, order{}, "read"},
		{"before its turn, not used", beforeCount, nil, order{}, "count"},
		{"since its turn, not used", afterCount, nil, order{}, ""},
		{"just scanned, everything is wanted", now.Add(-margin), nil, order{everything: true}, "read"},
		{"just scanned, another is wanted", now.Add(-margin), used, order{everything: true, entities: []string{"Invoice"}}, ""},
		{"recovery", after, used, order{recovery: true}, "read"},
		{"recovery, not used", afterCount, nil, order{recovery: true}, ""},
		{"recovery, not used, before its turn", beforeCount, nil, order{recovery: true}, ""},
		{"recovery, not used, before the turn before", beforeCount.Add(-14 * day), nil, order{recovery: true}, "count"},
		{"ahead of our clock", now.Add(time.Minute), used, order{}, "read"},
		{"hours ahead of our clock", now.Add(3 * time.Hour), nil, order{}, "count"},
		{"counted, and not loaded yet", before.Add(-margin), found, order{}, "load"},
		{"counted and loaded", now.Add(-margin), found, order{everything: true}, "read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &scan{r: r, realm: "1", cursors: map[string]time.Time{}, use: tc.use}
			for _, other := range r.config.QueryEntities {
				s.cursors[other] = now.Add(-margin)
			}
			s.cursors[name] = tc.cursor
			got := ""
			for _, f := range s.plan(tc.order) {
				switch {
				case f.entity != name:
				case f.count:
					got = "count"
				case f.load:
					got = "load"
				default:
					got = "read"
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// The turns of entities that a realm does not use are spread over two intervals: a day
// has two at most. Those of different realms lie apart.
func TestPlan_TurnsAreSpread(t *testing.T) {
	now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	r := &Reconciler{config: DefaultReconcilerConfig(), now: func() time.Time { return now }}
	hours := map[int]int{}
	for realm := range 200 {
		id := strconv.Itoa(9130347700000000 + realm)
		for from := now.Add(-13 * day); !from.After(now); from = from.Add(7 * time.Hour) {
			n := 0
			for _, name := range r.config.QueryEntities {
				if r.lastTurn(id, name, from, 14*day).After(from.Add(-day)) {
					n++
				}
			}
			require.LessOrEqual(t, n, 2, "%s at %s", id, from)
		}
		for _, name := range r.config.QueryEntities {
			hours[int(now.Sub(r.lastTurn(id, name, now, 14*day)).Hours())]++
		}
	}
	for hour := range 14 * 24 {
		require.Less(t, hours[hour], 200*len(r.config.QueryEntities)/336*3, hour)
	}
}

// A scan counts as many unused entities as have had their turn since the last one; a
// recovery counts one.
func TestPlan_CountsAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	r := &Reconciler{config: DefaultReconcilerConfig(), now: func() time.Time { return now }}
	for _, tc := range []struct {
		name  string
		since time.Duration
		order order
		want  int
	}{
		{"a day", day, order{}, 2},
		{"five minutes", 5 * time.Minute, order{}, 1},
		{"ten days", 10 * day, order{}, 13},
		{"an outage", day, order{recovery: true}, 1},
		{"a lapse of ten days", 10 * day, order{recovery: true}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &scan{r: r, realm: "1", cursors: map[string]time.Time{}}
			s.pace.Scanned = now.Add(-tc.since)
			for i, name := range r.config.QueryEntities {
				s.cursors[name] = now.Add(-20*day - time.Duration(i)*time.Hour)
			}
			var counts []string
			for _, f := range s.planQuery(now, tc.order) {
				require.True(t, f.count)
				counts = append(counts, f.entity)
			}
			require.Len(t, counts, tc.want)
			require.Equal(t, r.config.QueryEntities[len(r.config.QueryEntities)-1], counts[0], "the oldest first")
		})
	}
}
