package processor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

// replica is a processor with sinks of its own under the same names, so that one
// sees who delivered what.
type replica struct {
	running
	a *memory
}

func (b *bundle) replica() replica {
	b.t.Helper()
	o, a := b.options(), newMemory("a")
	o.Sinks = []processor.Sink{a, newMemory("b")}
	return replica{b.run(o), a}
}

// realmsOf are the realms that a replica delivered changes of.
func (r replica) realms() map[string]bool {
	realms := map[string]bool{}
	for ref := range r.a.all() {
		realms[ref.Realm] = true
	}
	return realms
}

// The events of a realm come to one replica, which makes few calls of them; when it
// goes they come to the other at once.
func TestProcessor_EachRealmHasAReplica(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var realms []string
	for i := range 24 {
		realms = append(realms, fmt.Sprintf("91303477%08d", i))
		b.connect(realms[i])
	}
	first, second := b.replica(), b.replica()
	tell := func() {
		for _, r := range realms {
			_, err := b.sim.Create(r, "Bill", nil)
			require.NoError(t, err)
		}
		b.publish(b.webhooks()...)
		b.settle(first.running)
		b.settle(second.running)
	}
	shared := func() (both int) {
		one, two := first.realms(), second.realms()
		for r := range one {
			if two[r] {
				both++
			}
		}
		return both
	}
	// Who comes first has everything until they know of each other.
	require.Eventually(t, func() bool {
		first.a.forget()
		second.a.forget()
		for range 3 {
			tell()
		}
		return shared() == 0 && len(first.realms()) > 0 && len(second.realms()) > 0
	}, patient, 10*time.Millisecond, "each realm has one replica, and each replica realms")

	first.stop()
	second.a.forget()
	tell()
	require.Len(t, second.realms(), len(realms), "what was the other's moves")
}

// forget begins anew.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes, m.sizes = nil, nil
}
