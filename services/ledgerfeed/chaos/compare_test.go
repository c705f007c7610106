package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

func TestCompare_FindsEachKindOfDifference(t *testing.T) {
	invoice := sink.Ref{Realm: "1", Entity: "Invoice", ID: "1"}
	activity := sink.Ref{Realm: "1", Entity: "TimeActivity", ID: "1"}
	live := lastState{qbosim.State{Version: 10}, "abc"}
	gone := lastState{qbosim.State{Version: 10, Deleted: true}, ""}
	all := func(lost, stale, extra, tombstones, content int) difference {
		return difference{lost: lost, stale: stale, extra: extra, wrongTombstones: tombstones, content: content}
	}
	none := all(0, 0, 0, 0, 0)
	for _, tt := range []struct {
		name  string
		ref   sink.Ref
		truth *lastState
		held  *sink.Row
		but   func(*excuses)
		want  difference
	}{
		{"equal", invoice, &live, &sink.Row{Version: 10, ContentHash: "abc"}, nil, none},
		{"missing", invoice, &live, nil, nil, all(1, 0, 0, 0, 0)},
		{"older", invoice, &live, &sink.Row{Version: 9, ContentHash: "abc"}, nil, all(0, 1, 0, 0, 0)},
		{"another document of the version", invoice, &live, &sink.Row{Version: 10, ContentHash: "xyz"}, nil, all(0, 0, 0, 0, 1)},
		{"another document that nothing tells of", invoice, &live, &sink.Row{Version: 10, ContentHash: "xyz"},
			func(e *excuses) { e.pending = map[sink.Ref]bool{invoice: true} }, none},
		{"newer", invoice, &live, &sink.Row{Version: 11, ContentHash: "xyz"}, nil, all(0, 0, 1, 0, 0)},
		{"the last document at a higher version", invoice, &live, &sink.Row{Version: 11, ContentHash: "abc"}, nil, none},
		{"deleted though live", invoice, &live, &sink.Row{Version: 10, Deleted: true}, nil, all(0, 0, 0, 1, 0)},
		{"deleted later though live", invoice, &live, &sink.Row{Version: 99, Deleted: true}, nil, all(0, 0, 0, 1, 0)},
		{"live though deleted", invoice, &gone, &sink.Row{Version: 10, ContentHash: "abc"}, nil, all(0, 1, 0, 0, 0)},
		{"deleted", invoice, &gone, &sink.Row{Version: 12, Deleted: true}, nil, none},
		{"deletion never told", invoice, &gone, nil, nil, all(1, 0, 0, 0, 0)},
		{"deletion that nobody can learn", activity, &gone, nil, nil, none},
		{"deletion of what it has", activity, &gone, &sink.Row{Version: 9}, nil, all(0, 1, 0, 0, 0)},
		{"deletion that no answer can have told", invoice, &gone, nil, func(e *excuses) { e.untold = map[sink.Ref]bool{invoice: true} }, none},
		{"that of what it has", invoice, &gone, &sink.Row{Version: 9}, func(e *excuses) { e.untold = map[sink.Ref]bool{invoice: true} }, all(0, 1, 0, 0, 0)},
		{"live all the same", invoice, &live, nil, func(e *excuses) { e.untold = map[sink.Ref]bool{invoice: true} }, all(1, 0, 0, 0, 0)},
		{"never was", invoice, nil, &sink.Row{Version: 9}, nil, all(0, 0, 1, 0, 0)},
		{"a tombstone of what never was", invoice, nil, &sink.Row{Version: 9, Deleted: true}, nil, all(0, 0, 1, 0, 0)},
		{"one that a webhook claims", invoice, nil, &sink.Row{Version: 9, Deleted: true}, func(e *excuses) { e.neverWas = func(sink.Ref) bool { return true } }, none},
		{"no tombstone of it", invoice, nil, &sink.Row{Version: 9}, func(e *excuses) { e.neverWas = func(sink.Ref) bool { return true } }, all(0, 0, 1, 0, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			truth, held := map[sink.Ref]lastState{}, map[sink.Ref]sink.Row{}
			if tt.truth != nil {
				truth[tt.ref] = *tt.truth
			}
			if tt.held != nil {
				held[tt.ref] = *tt.held
			}
			var but excuses
			if tt.but != nil {
				tt.but(&but)
			}
			got := compare(truth, held, but)
			require.Equal(t, got.equal(), len(got.examples) == 0)
			got.examples = nil
			require.Equal(t, tt.want, got)
		})
	}
}

func TestSummary_IsTheLineThatIsPromised(t *testing.T) {
	s := newSummary()
	good := Result{Changes: 5, Faults: 2, Kills: 1, Recovery: 1500e6, Invariants: map[string]string{}, Problems: map[string][]string{}}
	good.find("I1", true)
	good.find("I2", true)
	good.find("I3", false)
	require.True(t, good.Good())
	bad := Result{Lost: 1, Duplicate: 3, WrongTombstones: 1, ContentDiffers: 2, longestWrong: 2500e6, Invariants: map[string]string{}, Problems: map[string][]string{}}
	bad.find("I2", true, "an event is nowhere")
	require.False(t, bad.Good())
	s.add(good)
	s.add(bad)
	s.add(good)
	require.JSONEq(t, `{"runs":3,"changes":10,"faults":4,"kills":2,"lost":1,"stale":0,"extra":0,"wrong_tombstones":1,"content_differs":2,"wrong_tombstone_ms":2500,"duplicates":3,"invariants":{
		"I1":"held","I2":"broken","I3":"untried","I4":"untried","I5":"untried","I6":"untried","I7":"untried","I8":"untried","I9":"untried",
		"I10":"untried","I11":"untried","I12":"untried","I13":"untried","I14":"untried","I15":"untried","I16":"untried"},"recovery_ms":1500}`, s.Line())
	require.False(t, Result{Inconclusive: "no fault"}.Good())
}

func TestOptions_NameTheFlag(t *testing.T) {
	require.NoError(t, DefaultOptions().Validate())
	for flag, spoil := range map[string]func(*Options){
		"--for": func(o *Options) { o.For = 1 }, "--runs": func(o *Options) { o.Runs = 0 }, "--rate": func(o *Options) { o.Rate = -1 },
		"--realms": func(o *Options) { o.Realms = 0 }, "--settle": func(o *Options) { o.Settle = 0 },
		"--faults": func(o *Options) { o.Faults = []string{"kill-everything"} }, "--mutant": func(o *Options) { o.Mutant = "gremlin" },
	} {
		o := DefaultOptions()
		spoil(&o)
		require.ErrorContains(t, o.Validate(), flag)
	}
}
