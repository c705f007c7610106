package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// missingOfLapse are the records that were changed last before their company was connected
// again, and that the table does not show: no webhook was sent of them, or one was
// acknowledged and left to the scan that follows.
func (r *run) missingOfLapse(ctx context.Context) (missing []missingEvent, err error) {
	table, err := r.plant.database.rows(ctx)
	if err != nil {
		return nil, err
	}
	for _, realm := range r.plant.realms {
		last, ok := r.plant.consents.Load(realm)
		if !ok || !last.(time.Time).After(r.loadBegun) {
			continue
		}
		before := r.plant.books.at(last.(time.Time)).Add(-time.Second)
		for ref, want := range r.plant.books.Truth(realm) {
			of := sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}
			if !want.LastUpdated.Before(before) || want.Deleted || r.plant.books.shows(of, table[of], want) {
				continue
			}
			missing = append(missing, missingEvent{ref: of, text: fmt.Sprintf(
				"realm %s %s %s is version %d, the sink table has %d, and its company was connected again since", realm, ref.Entity, ref.ID, want.Version, table[of].Version)})
		}
	}
	return missing, nil
}

// noted are the records that scans will look at by id.
func (p *plant) noted(ctx context.Context) (map[sink.Ref]bool, error) {
	noted := map[sink.Ref]bool{}
	for _, realm := range p.realms {
		all, err := p.state.FollowUps(ctx, realm)
		if err != nil {
			return nil, err
		}
		for _, f := range all {
			noted[sink.Ref{Realm: realm, Entity: f.Entity, ID: f.ID}] = true
		}
	}
	return noted, nil
}

// followedWithin is how soon a read that was older than its event must be made again:
// the company is due two minutes after it.
const followedWithin = 2*time.Minute + 30*time.Second

// judgeFollowed looks whether what a late read did not show, or what was acknowledged
// while a company was not connected, is followed up within minutes, and not left to the
// scan of the next day (I2).
func (r *run) judgeFollowed(ctx context.Context) error {
	missing, _, judged, err := r.missingEvents(ctx)
	if err != nil {
		return err
	}
	if !r.effects.hides { // a late replica need not have shown it to the scan that followed
		lapsed, err := r.missingOfLapse(ctx)
		if err != nil {
			return err
		}
		missing = append(missing, lapsed...)
	}
	var wrong []string
	noted, err := r.plant.noted(ctx)
	if err != nil {
		return err
	}
	for _, m := range missing {
		due, err := r.plant.state.Due(ctx, m.ref.Realm)
		if err != nil {
			return err
		}
		wait := time.Until(due)
		switch {
		case wait > followedWithin:
			wrong = append(wrong, fmt.Sprintf("%s, and its company is scanned in %s only", m.text, wait.Round(time.Second)))
		case !noted[m.ref] && !r.plant.connectedAfter(ctx, m.ref.Realm, m.at):
			wrong = append(wrong, m.text+", and nothing is noted for the next scan")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judgedI2 = r.judgedI2 || judged && len(wrong) > 0
	r.unanswered = append(r.unanswered, wrong...)
	return nil
}
