package ingress

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// beatEvery is well below the silence that the reconciler takes for an outage (30 s).
const beatEvery = 5 * time.Second

// beats tells whoever listens that webhooks are taken, as long as they are.
func (s *Server) beats(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if s.Ready(ctx) == nil {
			if err := s.beat(ctx); err != nil {
				s.log.Debug("heartbeat failed", telemetry.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
