package processor

import (
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// maxNames is how many names that the table of entities does not hold are tried for
	// a realm within namesLife. Intuit adds some names a year; a body with a hundred of
	// them is made up, and each would cost a call.
	maxNames  = 10
	namesLife = time.Hour
	// maxNamed bounds the realms, and what QuickBooks knows of one.
	maxNamed = 1024
)

var errNamesRefused = errors.New("unknown entity name, and quickbooks refused other names of this company within the last hour")

// names remember of each realm which unknown names the API refused, and which not.
type names struct {
	mu     sync.Mutex // guards the rest
	realms *lru.Cache[string, *realmNames]
}

type realmNames struct {
	since   time.Time
	tried   map[string]bool // refused or, as long as that is not known, asked for
	refused map[string]bool
	known   map[string]bool
}

func newNames() (*names, error) {
	realms, err := lru.New[string, *realmNames](maxNamed)
	return &names{realms: realms}, err
}

// try returns an error if the name is not to be asked for.
func (n *names) try(realm, name string, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.realms.Get(realm)
	if !ok {
		r = &realmNames{known: map[string]bool{}}
		n.realms.Add(realm, r)
	}
	if age := now.Sub(r.since); age >= namesLife || age < 0 {
		r.since, r.tried, r.refused = now, map[string]bool{}, map[string]bool{}
	}
	switch {
	case r.known[name]:
		return nil
	case r.refused[name], !r.tried[name] && len(r.tried) >= maxNames:
		return errNamesRefused
	}
	r.tried[name] = true
	return nil
}

// refuse notes that the API does not know the name.
func (n *names) refuse(realm, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.realms.Get(realm); ok {
		r.refused[name] = true
		delete(r.known, name)
	}
}

// accept notes that it does.
func (n *names) accept(realm, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.realms.Get(realm); ok && len(r.known) < maxNamed {
		r.known[name] = true
		delete(r.tried, name)
	}
}
