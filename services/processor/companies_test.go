package processor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// companyKeeper is a sink that keeps companies, and refuses the first try.
type companyKeeper struct {
	*memory
	mu    sync.Mutex // guards the rest
	tries int
	held  map[string]sink.Company
}

func (k *companyKeeper) KeepCompanies(_ context.Context, all []sink.Company) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tries++; k.tries == 1 {
		return errors.New("away")
	}
	for _, c := range all {
		k.held[c.Realm] = c
	}
	return nil
}

func (k *companyKeeper) name(realm string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[realm].Name
}

func (k *companyKeeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// A sink that keeps companies gets all of them, those from before it began too, and hears
// of a new name.
func TestCompanies_ReachTheSinksThatKeepThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := &companyKeeper{memory: newMemory("keeper"), held: map[string]sink.Company{}}
	for i := range 250 { // more than are told of at once
		c := state.Company{Realm: fmt.Sprint(1000 + i), Name: fmt.Sprint("company ", i), HomeCurrency: "USD", ReadAt: b.clock.Now().Add(time.Duration(i) * time.Millisecond)}
		require.NoError(t, b.store.SetCompany(t.Context(), c))
	}
	o := b.options()
	o.Sinks = append(o.Sinks, k)
	p, err := processor.New(o)
	require.NoError(t, err)
	p.SetCompaniesEvery(5 * time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-ended)
	}()
	require.Eventually(t, func() bool { return k.count() == 250 }, patient, 5*time.Millisecond)
	require.Equal(t, "company 7", k.name("1007"))

	b.clock.Advance(time.Hour)
	require.NoError(t, b.store.SetCompany(t.Context(), state.Company{Realm: "1007", Name: "renamed", ReadAt: b.clock.Now()}))
	require.Eventually(t, func() bool { return k.name("1007") == "renamed" }, patient, 5*time.Millisecond)
	k.mu.Lock()
	defer k.mu.Unlock()
	require.Equal(t, "USD", k.held["1007"].HomeCurrency, "what was not told of stays")
}
