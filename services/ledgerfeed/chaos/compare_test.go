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
	live, gone := qbosim.State{Version: 10}, qbosim.State{Version: 10, Deleted: true}
	for _, tt := range []struct {
		name               string
		ref                sink.Ref
		truth              *qbosim.State
		held               *sink.Row
		untold             bool
		lost, stale, extra int
	}{
		{"equal", invoice, &live, &sink.Row{Version: 10}, false, 0, 0, 0},
		{"missing", invoice, &live, nil, false, 1, 0, 0},
		{"older", invoice, &live, &sink.Row{Version: 9}, false, 0, 1, 0},
		{"newer", invoice, &live, &sink.Row{Version: 11}, false, 0, 0, 1},
		{"deleted though live", invoice, &live, &sink.Row{Version: 10, Deleted: true}, false, 0, 0, 1},
		{"live though deleted", invoice, &gone, &sink.Row{Version: 10}, false, 0, 1, 0},
		{"deleted", invoice, &gone, &sink.Row{Version: 12, Deleted: true}, false, 0, 0, 0},
		{"deletion never told", invoice, &gone, nil, false, 1, 0, 0},
		{"deletion that nobody can learn", activity, &gone, nil, false, 0, 0, 0},
		{"deletion of what it has", activity, &gone, &sink.Row{Version: 9}, false, 0, 1, 0},
		{"deletion that no answer can have told", invoice, &gone, nil, true, 0, 0, 0},
		{"that of what it has", invoice, &gone, &sink.Row{Version: 9}, true, 0, 1, 0},
		{"live all the same", invoice, &live, nil, true, 1, 0, 0},
		{"never was", invoice, nil, &sink.Row{Version: 9}, false, 0, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			truth, held := map[sink.Ref]qbosim.State{}, map[sink.Ref]sink.Row{}
			if tt.truth != nil {
				truth[tt.ref] = *tt.truth
			}
			if tt.held != nil {
				held[tt.ref] = *tt.held
			}
			d := compare(truth, held, map[sink.Ref]bool{tt.ref: tt.untold})
			require.Equal(t, []int{tt.lost, tt.stale, tt.extra}, []int{d.lost, d.stale, d.extra})
			require.Equal(t, d.equal(), len(d.examples) == 0)
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
	bad := Result{Lost: 1, Duplicate: 3, Invariants: map[string]string{}, Problems: map[string][]string{}}
	bad.find("I2", true, "an event is nowhere")
	require.False(t, bad.Good())
	s.add(good)
	s.add(bad)
	s.add(good)
	require.JSONEq(t, `{"runs":3,"changes":10,"faults":4,"kills":2,"lost":1,"stale":0,"extra":0,"duplicates":3,"invariants":{
		"I1":"held","I2":"broken","I3":"untried","I4":"untried","I5":"untried","I6":"untried","I7":"untried","I8":"untried","I9":"untried",
		"I10":"untried","I11":"untried","I12":"untried","I13":"untried","I14":"untried"},"recovery_ms":1500}`, s.Line())
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
