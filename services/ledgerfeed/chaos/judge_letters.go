package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// askWait bounds how long a broker may take to show all dead letters, on a busy
// machine that has just been through everything.
const askWait = 2 * time.Minute

// letters are the dead letters there are.
type letters struct {
	// of are the sinks that a letter of the record is of; "" is all of them.
	of map[sink.Ref]map[string]bool
	// strangers counts the letters that only say that a company is not connected.
	strangers map[string]int
}

// excuse reports whether a letter says that the sink did not get the record.
func (l letters) excuse(ref sink.Ref, name string) bool { return l.of[ref][""] || l.of[ref][name] }

// dead are the dead letters there are.
func (p *plant) dead(ctx context.Context) (all letters, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for {
		if all, err = p.readDead(ctx); err == nil || lifecycle.Sleep(ctx, poll) != nil {
			return all, err
		}
	}
}

func (p *plant) readDead(ctx context.Context) (letters, error) {
	all := letters{of: map[sink.Ref]map[string]bool{}, strangers: map[string]int{}}
	err := p.conn.EachDead(ctx, stream.DeadFilter{}, func(d stream.DeadLetter) error {
		for ref := range refsOf(d) {
			if all.of[ref] == nil {
				all.of[ref] = map[string]bool{}
			}
			all.of[ref][d.Sink] = true
		}
		if d.Reason == stream.ReasonRealmNotConnected && slices.ContainsFunc(d.Envelope.GetEvents(), told) {
			all.strangers[d.RealmID]++
		}
		return nil
	})
	return all, err
}

// told reports whether a load tells of the event, should its company be connected.
func told(e *ledgerfeedv1.Event) bool {
	return e.GetOperation() != ledgerfeedv1.Operation_OPERATION_DELETE || listed(e.GetEntity())
}

// overtold are the companies that nobody connected of which more is told than one letter
// a day (I9): who fills the dead letters stops others.
func (r *run) overtold(dead letters) (wrong []string) {
	if r.made["redis-evict"] {
		return nil // what was told is forgotten again and again
	}
	for _, realm := range slices.Sorted(maps.Keys(dead.strangers)) {
		// What Redis has forgotten, or a process that was killed, is told again.
		if n, most := dead.strangers[realm], 1+r.disrupted; n > most {
			wrong = append(wrong, fmt.Sprintf("%d dead letters tell of company %s, which is not connected, and %d would do", n, realm, most))
		}
	}
	return wrong
}
