package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

func (r *run) judgeLimits(res *Result) {
	var wrong []string
	if res.perMinute > allowedPerMinute {
		wrong = append(wrong, fmt.Sprintf("a realm had %d calls within 60 s", res.perMinute))
	}
	if res.concurrent > allowedConcurrent {
		wrong = append(wrong, fmt.Sprintf("a realm had %d calls at once, first at %s", res.concurrent, res.crowdedAt.UTC().Format("15:04:05.000")))
	}
	res.find("I6", res.perMinute > 0, wrong...)
}

func (r *run) judgeTokens(ctx context.Context, res *Result) {
	stats := r.plant.books.Stats()
	var wrong []string
	if n := stats.RefreshReplays; n > 0 && !r.effects.forgets && !r.effects.repeats {
		wrong = append(wrong, fmt.Sprintf("%d refreshes were made with a token that had been replaced, and nothing had crashed", n))
	}
	if n := r.plant.books.sharedTokens(); n > 0 && !r.effects.forgets {
		wrong = append(wrong, fmt.Sprintf("%d refreshes were made while another one was under way with the same token", n))
	}
	wrong = append(wrong, r.refreshed...)
	for _, realm := range r.plant.realms {
		c, err := r.plant.connections.Get(ctx, realm)
		if err != nil || c.State != connection.Live {
			wrong = append(wrong, fmt.Sprintf("realm %s has lost its authorisation: %s %v", realm, c.Reason, err))
		}
	}
	res.find("I7", stats.Refreshes > 0, wrong...)
}

// judgeI12 bounds the calls: those of the company where nothing changes by the
// scans there can have been, those of the others by their changes as well.
func (r *run) judgeI12(res *Result) {
	scans := 10 // the load of a new company
	if r.scans < never {
		scans += int(res.took / r.scans)
	}
	for _, one := range r.plant.services["reconciler"] {
		scans += one.begun()
	}
	scans += int(res.took / (3 * time.Second)) // tried again while something failed, and at the end
	const ofScan, ofLoad = 6, 2
	load := 2 * ofLoad * len(entity.All()) // at the start, and at the end
	allowed := load + ofScan*scans
	var wrong []string
	if n := r.plant.books.calls(r.plant.quiet); n > allowed {
		wrong = append(wrong, fmt.Sprintf("the realm where nothing changes had %d calls, and %d would do", n, allowed))
	}
	for _, realm := range r.plant.realms {
		res.calls += r.plant.books.calls(realm)
	}
	if most := allowed*len(r.plant.realms) + 2*res.Changes; res.calls > most {
		wrong = append(wrong, fmt.Sprintf("%d changes took %d calls, and %d would do", res.Changes, res.calls, most))
	}
	res.find("I12", res.calls > 0, wrong...)
}
