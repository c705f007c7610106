package reconciler

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// retryRefused is how long a name that a realm's API has refused is not asked for: an
// entity may come with another edition of QuickBooks, or another version of the API.
const retryRefused = 7 * 24 * time.Hour

const (
	wayCDC   = "cdc"
	wayQuery = "query"
)

// refusal is when the API last refused an entity by name; zero: never.
type refusal struct{ cdc, query time.Time }

// unknown reports whether there is no way to ask for an entity.
func (s *scan) unknown(name string, now time.Time) bool {
	at := s.refused[name].query
	return !at.IsZero() && now.Sub(at) < retryRefused
}

// readRefused reads what the realm has refused.
func (r *Reconciler) readRefused(ctx context.Context, realm string) (map[string]refusal, error) {
	all, err := r.state.Refusals(ctx, realm)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	by := map[string]refusal{}
	for _, one := range all {
		known := by[one.Entity]
		if one.Way == wayCDC {
			known.cdc = one.At
		} else {
			known.query = one.At
		}
		by[one.Entity] = known
	}
	return by, nil
}

// refuses remembers that the API does not know an entity here. If that fails it is
// asked, and refused, again.
func (s *scan) refuses(ctx context.Context, name, way string) {
	if err := s.r.state.Refused(ctx, s.realm, state.Refusal{Entity: name, Way: way, At: s.r.now()}); err != nil {
		s.log.Warn("refused name not remembered", telemetry.Entity(name), telemetry.Error(err))
	}
}

// accepts forgets that it did not.
func (s *scan) accepts(ctx context.Context, f *finding, way string) {
	if at := s.refused[f.entity]; way == wayCDC && at.cdc.IsZero() || way == wayQuery && at.query.IsZero() {
		return
	}
	if err := s.r.state.Accepted(ctx, s.realm, state.Refusal{Entity: f.entity, Way: way}); err != nil {
		s.log.Warn("refused name not forgotten", telemetry.Entity(f.entity), telemetry.Error(err))
		return
	}
	s.log.Info("entity is known here by now", telemetry.Entity(f.entity), telemetry.Source(way))
}
