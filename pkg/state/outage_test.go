package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// morning is noon without a fraction, less some hours.
var morning = noon.Truncate(time.Hour).Add(-4 * time.Hour)

func minute(n int) time.Time { return morning.Add(time.Duration(n) * time.Minute) }

func outages(t *testing.T, s *state.Store) []state.Outage {
	t.Helper()
	all, err := s.Outages(t.Context())
	require.NoError(t, err)
	return all
}

func TestOutages_OfOneKindThatTouchAreOne(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		add := func(kind string, from, to int, detail string) {
			require.NoError(t, s.AddOutage(t.Context(), state.Outage{Kind: kind, From: minute(from), To: minute(to), Detail: detail}))
		}
		require.Empty(t, outages(t, s))
		add(state.OutageBroker, 10, 20, "100 to 7,\nwith a comma")
		add(state.OutageLag, 15, 18, "")
		add(state.OutageBroker, 20, 25, "")
		add(state.OutageBroker, 40, 41, "again")
		add(state.OutageBroker, 40, 41, "again")
		add(state.OutageLag, 15, 50, "")
		want := []state.Outage{
			{From: minute(15), To: minute(50), Kind: state.OutageLag},
			{From: minute(40), To: minute(41), Kind: state.OutageBroker, Detail: "again"},
			{From: minute(10), To: minute(25), Kind: state.OutageBroker, Detail: "100 to 7, with a comma"},
		}
		require.Empty(t, cmp.Diff(want, outages(t, s)))
		add(state.OutageBroker, 5, 60, "all")
		require.Empty(t, cmp.Diff([]state.Outage{{From: minute(5), To: minute(60), Kind: state.OutageBroker, Detail: "all"}, want[0]}, outages(t, s)))

		require.Error(t, s.AddOutage(t.Context(), state.Outage{Kind: "a,b", From: minute(1), To: minute(2)}))
		require.Error(t, s.AddOutage(t.Context(), state.Outage{Kind: "lag", From: minute(2), To: minute(1)}))
		require.Error(t, s.AddOutage(t.Context(), state.Outage{Kind: "lag", To: minute(1)}))
	})
}

func TestOutages_AreBounded(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		for i := range state.MaxOutages + 20 {
			require.NoError(t, s.AddOutage(t.Context(), state.Outage{Kind: state.OutageBroker, From: minute(2 * i), To: minute(2*i + 1)}))
		}
		all := outages(t, s)
		require.Len(t, all, state.MaxOutages)
		require.Equal(t, minute(2*(state.MaxOutages+19)), all[0].From)
	})
}

func TestOutages_MakeRealmsDueOnceUntilSettled(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		watch := func() state.Watch {
			w, err := s.Watch(t.Context())
			require.NoError(t, err)
			return w
		}
		require.False(t, watch().Pending())
		require.NoError(t, s.AddOutage(t.Context(), state.Outage{Kind: state.OutageLag, From: minute(1), To: minute(2)}))
		require.False(t, watch().Pending(), "a suspicion")
		require.NoError(t, s.AddOutage(t.Context(), state.Outage{Kind: state.OutageBroker, From: minute(1), To: minute(3)}))
		w := watch()
		require.True(t, w.Pending())
		require.Equal(t, minute(3), w.Since)
		require.NoError(t, s.AddOutage(t.Context(), state.Outage{Kind: state.OutageBroker, From: minute(5), To: minute(6)}))
		require.NoError(t, s.Settle(t.Context(), w.Since))
		require.True(t, watch().Pending(), "another one came meanwhile")
		require.NoError(t, s.Settle(t.Context(), watch().Since))
		require.False(t, watch().Pending())

		require.NoError(t, s.NoteCoverage(t.Context(), "a", minute(8)))
		require.NoError(t, s.NoteCoverage(t.Context(), "a", minute(9)))
		require.False(t, watch().Pending(), "the first time it covers nothing new")
		require.NoError(t, s.NoteCoverage(t.Context(), "a b", minute(10)))
		require.Equal(t, minute(10), watch().Since)
	})
}

// Each step is a minute, and one may be missed: what is heard of the ingress, by whom,
// and the outages that follow.
func TestWatch_SilenceIsAnOutage(t *testing.T) {
	const gap = 150 * time.Second
	outage := func(kind string, from, to int) state.Outage {
		return state.Outage{Kind: kind, From: minute(from), To: minute(to)}
	}
	for _, tc := range []struct {
		name  string
		steps string // + heard, - not heard, space: nobody listened
		want  []state.Outage
	}{
		{"never heard", "-----", nil},
		{"always heard", "+++++", nil},
		{"one beat late", "++-++", nil},
		{"down", "++---+", []state.Outage{outage(state.OutageIngress, 1, 5)}},
		{"down twice, one beat between", "+---+---+", []state.Outage{outage(state.OutageIngress, 0, 8)}},
		{"still down", "++---", []state.Outage{{Kind: state.OutageIngress, From: minute(1), To: minute(4), Open: true}}},
		{"nobody listened for as long as an upgrade takes", "++         ++", nil},
		{"nobody listened", "++            ++", []state.Outage{outage(state.OutageUnwatched, 1, 14)}},
		{"nobody listened, ingress never heard", "--            --", []state.Outage{outage(state.OutageUnwatched, 1, 14)}},
		{"down, nobody listened, down", "+---            ---+", []state.Outage{
			outage(state.OutageIngress, 16, 19), outage(state.OutageUnwatched, 3, 16), outage(state.OutageIngress, 0, 3),
		}},
		{"down, nobody listened for a short time, down", "+---    ---+", []state.Outage{
			outage(state.OutageIngress, 8, 11), outage(state.OutageIngress, 0, 3),
		}},
		// A digit: nobody listened until now, and by the record that is how many minutes
		// ago the ingress last beat.
		{"nobody listened, recorded", "++                        0+", nil},
		{"recorded, it ends with a silence that goes on", "++            4--+", []state.Outage{outage(state.OutageIngress, 10, 17)}},
		{"recorded, it ends with a silence that ends at once", "++            1+", nil},
		{"down, nobody listened, recorded", "+---            1+", []state.Outage{outage(state.OutageIngress, 0, 3)}},
		{"ingress never heard, recorded", "--            3--", []state.Outage{{Kind: state.OutageIngress, From: minute(11), To: minute(16), Open: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *state.Store) {
				for i, step := range tc.steps {
					if step == ' ' {
						continue
					}
					var err error
					if step >= '0' && step <= '9' {
						_, err = s.NoteRecordedWatch(t.Context(), minute(i), false, gap, time.Duration(step-'0')*time.Minute)
					} else {
						_, err = s.NoteWatch(t.Context(), minute(i), step == '+', gap)
					}
					require.NoError(t, err)
				}
				require.Empty(t, cmp.Diff(tc.want, outages(t, s)))
			})
		})
	}
}

// Clocks of replicas differ by some minutes: that is no outage.
func TestWatch_ClocksThatDifferAreNoOutage(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		for i := range 20 {
			at := morning.Add(time.Duration(i) * 5 * time.Second)
			if i%2 == 1 {
				at = at.Add(10 * time.Minute)
			}
			_, err := s.NoteWatch(t.Context(), at, true, 30*time.Second)
			require.NoError(t, err)
		}
		// Only that the one that is ahead was seen for the first time.
		require.LessOrEqual(t, len(outages(t, s)), 1)
	})
}

func TestPosition_Survives(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		p, err := s.Position(t.Context())
		require.NoError(t, err)
		require.Zero(t, p)
		want := state.Position{Created: "2026-11-23T12:00:00.000000001Z", Last: 1<<64 - 1, Lost: 3, Safe: minute(7)}
		require.NoError(t, s.SetPosition(t.Context(), want))
		p, err = s.Position(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, p)
	})
}

// A replica of an older version says once that it is a year later.
func TestWatch_AClockThatWasAheadOnceBlindsNobody(t *testing.T) {
	const gap = 150 * time.Second
	for name, heard := range map[string]bool{"heard": true, "not heard": false} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, s *state.Store) {
				note := func(at time.Time, heard bool) state.Watch {
					w, err := s.NoteWatch(t.Context(), at, heard, gap)
					require.NoError(t, err)
					return w
				}
				note(minute(0), true)
				note(minute(0).AddDate(1, 0, 0), heard)
				for i := 1; i < 60; i++ {
					w := note(minute(i), i == 1)
					require.False(t, w.Since.After(minute(1)), "each scan would cover everything until then")
				}
				note(minute(60), true)
				require.Contains(t, outages(t, s), state.Outage{Kind: state.OutageIngress, From: minute(1), To: minute(60)})
				for _, o := range outages(t, s) {
					require.False(t, o.To.After(minute(60)), "%v", o)
				}
			})
		})
	}
}

func TestWatch_IsByTheClockOfRedis(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		now, err := s.Now(t.Context())
		require.NoError(t, err)
		w, err := s.NoteWatch(t.Context(), time.Time{}, true, time.Minute)
		require.NoError(t, err)
		require.WithinDuration(t, now, w.Beat, time.Minute)
		require.Equal(t, w.Beat, w.Watched)
	})
}
