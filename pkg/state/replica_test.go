package state_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// member is a replica that remembers what it was told last.
type member struct {
	*state.Members
	stop func()

	mu   sync.Mutex
	last []string
}

func join(t *testing.T, s *state.Store, service string) *member {
	t.Helper()
	m := &member{Members: s.Members(service, zap.NewNop())}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Run(ctx, func(replicas []string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.last = replicas
		})
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(m.stop)
	return m
}

func (m *member) sees(others ...*member) bool {
	want := []string{m.ID()}
	for _, o := range others {
		want = append(want, o.ID())
	}
	slices.Sort(want)
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Equal(want, m.last)
}

func TestMembers_SeeEachOtherComeAndGo(t *testing.T) {
	everywhere(t, func(t *testing.T, s *state.Store) {
		const soon, tick = 30 * time.Second, 10 * time.Millisecond
		a := join(t, s, "service")
		require.Eventually(t, func() bool { return a.sees() }, soon, tick)
		b := join(t, s, "service")
		join(t, s, "another service")
		require.Eventually(t, func() bool { return a.sees(b) && b.sees(a) }, soon, tick)
		a.stop()
		require.Eventually(t, func() bool { return b.sees() }, soon, tick)
	})
}
