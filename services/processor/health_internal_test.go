package processor

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// refuser refuses for good each write that holds a record which it does not want.
type refuser struct {
	Sink
	unwanted func(id string) bool
	taken    map[string]bool
}

func (*refuser) Name() string { return "refuser" }

func (r *refuser) Write(_ context.Context, changes []*ledgerfeedv1.Change) error {
	for _, c := range changes {
		if r.unwanted(c.GetEntityId()) {
			return stream.Permanent(stream.ReasonSinkRefused, errors.New("a constraint"))
		}
	}
	for _, c := range changes {
		r.taken[c.GetEntityId()] = true
	}
	return nil
}

// A sink that refuses everything as a whole is called down, whatever the size of the batches.
// Once it takes records again it gets all but the few that were refused before, and a bad
// record among them holds up no other.
func TestHealth_ASinkThatRefusesAllIsDownWhateverTheBatch(t *testing.T) {
	for n := maxRefused + 1; n <= 200; n++ {
		synctest.Test(t, func(t *testing.T) {
			r := &refuser{unwanted: func(string) bool { return true }, taken: map[string]bool{}}
			out := newOutput(r, filter{}, time.Second, zap.NewNop())
			outputs := []*output{out}
			p := &Processor{outputs: outputs, count: newCounters(prometheus.NewRegistry(), newHand(ProcessorConfig{}, zap.NewNop()), outputs)}
			var waiting []*item
			add := func(id string) {
				waiting = append(waiting, &item{failed: make([]error, 1), verdict: verdict{change: &ledgerfeedv1.Change{EntityId: id}}})
			}
			for i := range n {
				add(strconv.Itoa(i))
			}
			refused := 0
			round := func() {
				p.writeTo(t.Context(), 0, waiting)
				var left []*item
				for _, it := range waiting {
					if _, permanent := stream.AsPermanent(it.failed[0]); permanent {
						refused++
					} else if it.failed[0] != nil {
						left = append(left, it)
					}
				}
				waiting = left
				time.Sleep(breakerDelay)
			}
			for range 3 {
				round()
			}
			trouble, reason, down := out.trouble("")
			require.True(t, down, "with %d records", n)
			require.Equal(t, "refuses all", reason)
			require.Contains(t, trouble.Error, "a constraint")
			require.LessOrEqual(t, refused, maxRefused)

			bad := strconv.Itoa(n - 1)
			r.unwanted = func(id string) bool { return id == bad }
			add("a new one")
			for range 5 {
				if len(waiting) > 0 {
					round()
				}
			}
			require.Empty(t, waiting)
			require.Equal(t, n+1, refused+len(r.taken))
			require.LessOrEqual(t, refused, maxRefused+1)
			_, _, down = out.trouble("")
			require.False(t, down)
		})
	}
}
