//go:build !linux

package load

import (
	"context"
	"time"
)

// alarm wakes one goroutine at a time.
type alarm struct{ ctx <-chan struct{} }

// newAlarm returns an alarm that does not sleep any more once ctx has ended.
func newAlarm(ctx context.Context) (*alarm, error) { return &alarm{ctx: ctx.Done()}, nil }

func (a *alarm) sleepUntil(at time.Time) {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.ctx:
	}
}

func (*alarm) close() {}
