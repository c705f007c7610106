package doctor

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

const (
	checkLimiter = "limiter"
	checkBudget  = "budget"
)

// calls looks at what bounds the calls to Intuit.
func (x *exam) calls(ctx context.Context) {
	if x.store == nil {
		x.skip(checkLimiter, "fix Redis first", "not looked at")
		return
	}
	limits := state.DefaultLimits()
	release, err := x.store.Limiter(limits).Acquire(ctx, "doctor", qbo.Live)
	if err != nil {
		x.fail(checkLimiter, "see the log of Redis: without the limiter no call is made", "%v", err)
	} else {
		release()
		x.ok(checkLimiter, "%d calls a minute and %d at a time for each company, over all replicas", limits.PerMinute, limits.Concurrency)
	}
	u, err := x.store.Budget(x.Config.QBO.MonthlyCalls).Usage(ctx)
	switch {
	case err != nil:
		x.fail(checkBudget, "see the log of Redis", "%v", err)
	case u.Budget == 0:
		x.ok(checkBudget, "%d metered calls this month, %d forecast; no bound is set (qbo.monthly_calls)", u.Total(), u.Forecast)
	case u.Total() >= u.Budget:
		x.fail(checkBudget, "raise qbo.monthly_calls if your tier allows it; until the month ends changes wait", "all of the %d calls of this month are used", u.Budget)
	case u.Forecast > u.Budget:
		x.warn(checkBudget, "scan less often (reconciler.interval), deliver what needs no document as events only (processor.event_only), or raise qbo.monthly_calls",
			"%d calls are forecast for this month, and %d are allowed", u.Forecast, u.Budget)
	default:
		x.ok(checkBudget, "%d of %d calls of this month used, %d forecast", u.Total(), u.Budget, u.Forecast)
	}
}
