package processor

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/rendezvous"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// lowest is the lowest priority that the broker knows.
const lowest = 9

// affinity says which groups of partitions this replica takes first: that events
// of a realm come to one replica makes few calls of many events. It is about cost
// alone. The broker gives what the first replica does not ask for to the next one,
// and correctness rests on the marks, whoever delivers (ADR 6).
type affinity struct {
	members *state.Members

	mu         sync.Mutex // guards the rest
	priorities [stream.Groups]uint8
	changed    [stream.Groups]chan struct{} // closed when the priority changes
}

func newAffinity(s *state.Store, log *zap.Logger) *affinity {
	a := &affinity{members: s.Members(durableName, log)}
	for g := range a.changed {
		a.changed[g] = make(chan struct{})
	}
	return a
}

// priority is that of this replica for a group, 0 the highest; changed is closed
// when it is another.
func (a *affinity) priority(group int) (p uint8, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.priorities[group], a.changed[group]
}

// run keeps the priorities up to date until ctx ends. Without Redis they stay.
func (a *affinity) run(ctx context.Context) {
	a.members.Run(ctx, func(replicas []string) { a.set(priorities(replicas, a.members.ID())) })
}

func (a *affinity) set(priorities [stream.Groups]uint8) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for g, p := range priorities {
		if p != a.priorities[g] {
			a.priorities[g] = p
			close(a.changed[g])
			a.changed[g] = make(chan struct{})
		}
	}
}

// priorities are those of the replica self: first for the groups it leads, and its
// place in line for the others.
func priorities(replicas []string, self string) (p [stream.Groups]uint8) {
	if !slices.Contains(replicas, self) {
		replicas = append(slices.Clone(replicas), self)
	}
	leaders := rendezvous.Leaders(replicas, stream.Groups)
	for g := range p {
		rank := 0
		for _, r := range replicas {
			before := rendezvous.Score(g, r) > rendezvous.Score(g, self)
			if r != self && (r == leaders[g] || self != leaders[g] && before) {
				rank++
			}
		}
		p[g] = uint8(min(rank, lowest))
	}
	return p
}
