package postgres

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	trimEvery   = time.Minute
	trimBatch   = 1000
	trimTimeout = 30 * time.Second
)

// trimOldest deletes the oldest rows of the log that were written too long ago. It
// looks at one batch from the low end, which needs no index on the time.
const trimOldest = `
DELETE FROM {{log}}
WHERE seq <= (SELECT max(seq) FROM (SELECT seq FROM {{log}} ORDER BY seq LIMIT $1) AS oldest)
  AND written_at < now() - $2::interval`

// trimUntil trims now and then until ctx ends. Every replica does: who comes
// second finds nothing.
func (s *Sink) trimUntil(ctx context.Context, statement string, keep time.Duration, log *zap.Logger) {
	tick := time.NewTicker(min(keep, trimEvery))
	defer tick.Stop()
	for {
		if err := s.trim(ctx, statement, keep); err != nil && ctx.Err() == nil {
			log.Warn("old rows not removed", telemetry.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// trim deletes in small transactions, so that no writer waits for one.
func (s *Sink) trim(ctx context.Context, statement string, keep time.Duration) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	for {
		deleted, err := s.trimOnce(ctx, statement, keep)
		if err != nil || deleted < trimBatch {
			return err
		}
	}
}

func (s *Sink) trimOnce(ctx context.Context, statement string, keep time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, trimTimeout)
	defer cancel()
	tag, err := s.exec(ctx, s.names().Replace(statement), trimBatch, keep)
	return tag.RowsAffected(), err
}
