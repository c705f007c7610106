package reconciler

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// readClock reads Redis's clock, which all replicas share.
func (r *Reconciler) readClock(ctx context.Context) {
	took := r.clock.Reading()
	now, err := r.state.Now(ctx)
	if err != nil {
		r.log.Debug("clock not read", telemetry.Error(err))
		return
	}
	took(now)
}
