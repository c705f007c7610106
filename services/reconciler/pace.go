package reconciler

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// objectsAScan is what the schedule aims at: a third of what fits into one CDC
	// answer, so that a realm may grow busier by that much between two scans.
	objectsAScan = 300
	// paceMemory is how long the average of the changes a day remembers.
	paceMemory = 6 * time.Hour
	// A realm in which nothing has changed for that long is scanned less often than
	// once an interval: after a tenth of the time it has been quiet.
	dormantAfter = 30 * 24 * time.Hour
	dormantPart  = 10
)

// occasion is why a realm is scanned now, and what follows from it.
type occasion struct {
	pace  state.Pace
	since time.Time // the end of the last outage of ours
}

// occasion reads it.
func (r *Reconciler) occasion(ctx context.Context, realm string) (occasion, error) {
	pace, err := r.state.Pace(ctx, realm)
	if err != nil {
		return occasion{}, err
	}
	if pace.Scanned.After(r.now().Add(clockDifference)) {
		// A clock that was ahead has said so. Nobody knows when it was, and the realm
		// would rest until then.
		pace = state.Pace{PerDay: pace.PerDay}
	}
	w, err := r.state.Watch(ctx)
	return occasion{pace: pace, since: w.Since}, err
}

// late reports whether what happened since the last scan is more than an interval of
// the usual kind: an outage, another authorisation, or too long a time. Such a scan is a
// recovery: it covers those entities only Query can find that the realm uses.
func (r *Reconciler) late(x occasion, conn connection.Connection) bool {
	return x.pace.Full.Before(x.since) || conn.ChangedAt.After(x.pace.Full) ||
		r.now().Sub(x.pace.Scanned) > r.quietInterval(x.pace)*3/2
}

// repairs reports whether a scan is one that an outage or a lapse has caused.
func (x occasion) repairs(conn connection.Connection) bool {
	return !x.pace.Scanned.IsZero() && (x.pace.Scanned.Before(x.since) || conn.ChangedAt.After(x.pace.Scanned))
}

// quietInterval is how long a realm may be left alone if nothing changes in it.
func (r *Reconciler) quietInterval(p state.Pace) time.Duration {
	quiet := p.Scanned.Sub(p.Changed)
	if quiet < dormantAfter || p.Changed.IsZero() {
		return r.config.Interval
	}
	return min(max(quiet/dormantPart, r.config.Interval), max(r.config.DormantInterval, r.config.Interval))
}

// interval is when to scan a realm again: so that a scan finds some objectsAScan
// changes, but once an interval at least.
func (r *Reconciler) interval(ctx context.Context, p state.Pace) time.Duration {
	most := r.config.Interval
	if p.PerDay <= 0 {
		return most
	}
	aim := time.Duration(float64(24*time.Hour) * objectsAScan / float64(p.PerDay))
	aim = time.Duration(float64(max(aim, r.config.MinInterval)) * r.scarcity(ctx))
	return min(aim, most)
}

// scarcity is by how much intervals are stretched so that the month's calls last: 1
// if there are enough of them.
func (r *Reconciler) scarcity(ctx context.Context) float64 {
	if r.usage == nil {
		return 1
	}
	u, err := r.usage(ctx)
	if err != nil || u.Budget <= 0 {
		return 1
	}
	return max(1, float64(u.Forecast)/(scheduledPart*float64(u.Budget)))
}

// scheduledPart is the part of the month's calls beyond which the schedule begins to
// save: nine tenths are there for anybody, see state.Budget.
const scheduledPart = 0.9

// rests returns until when a due realm is left alone: the zero time if it is to be
// scanned now. It costs no call of the API. Only a realm that is dormant rests: one
// in which no scan has seen a change for a month, and no webhook has told of one.
func (r *Reconciler) rests(ctx context.Context, realm string, x occasion) (time.Time, error) {
	most := r.quietInterval(x.pace)
	until := x.pace.Scanned.Add(most)
	if most <= r.config.Interval || !r.now().Before(until) || x.pace.Scanned.Before(x.since) {
		return time.Time{}, nil
	}
	conn, err := r.connections.Get(ctx, realm)
	if err != nil || conn.ChangedAt.After(x.pace.Scanned) {
		return time.Time{}, err
	}
	// Absent records are to be asked for once more.
	if absent, err := r.state.HasAbsences(ctx, realm); err != nil || absent {
		return time.Time{}, err
	}
	seen, err := r.state.Freshness(ctx, realm)
	if err != nil {
		return time.Time{}, err
	}
	for _, one := range seen {
		// A webhook may say when its change happened, by Intuit's clock, some time ago.
		if one.At.After(x.pace.Changed) {
			return time.Time{}, nil
		}
	}
	// Looked at once an interval, in case a webhook comes.
	return minTime(until, r.now().Add(r.config.Interval)), nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// paced is the pace after a scan of the whole realm that began at a time.
func paced(before state.Pace, began time.Time, changed int, full bool) state.Pace {
	after := before
	after.Scanned = began
	if full {
		after.Full = began
	}
	// A realm that is new to us counts as one in which something happens.
	if changed > 0 || before.Changed.IsZero() {
		after.Changed = began
	}
	elapsed := began.Sub(before.Scanned)
	if before.Scanned.IsZero() || elapsed <= 0 {
		return after
	}
	// The more time a scan speaks for, the more it counts.
	weight := 1 - math.Exp(-elapsed.Hours()/paceMemory.Hours())
	seen := float64(changed) / elapsed.Hours() * 24
	after.PerDay = int(math.Round(float64(before.PerDay)*(1-weight) + seen*weight))
	return after
}

// keepPace writes down a scan of the whole realm. If that fails the realm counts as
// not scanned, which costs some calls.
func (r *Reconciler) keepPace(ctx context.Context, realm string, g state.Generation, p state.Pace) {
	if err := r.state.KeepPace(ctx, realm, g, p); err != nil {
		r.log.Warn("realm pace not saved", telemetry.Realm(realm), telemetry.Error(err))
	}
}

// next is when to look at a realm again, after a scan that was due.
func (r *Reconciler) next(ctx context.Context, realm string, out outcome) time.Duration {
	if after, ok := waits(out.err); ok {
		return min(r.config.Interval, after)
	}
	switch {
	case out.err == nil:
		if out.again {
			return r.rest(ctx, out.pace)
		}
		return r.interval(ctx, out.pace)
	case errors.Is(out.err, errCancelled):
		return r.config.Interval
	case errors.Is(out.err, errParked):
		// It costs no call: whether it is connected again is in Redis.
		return min(r.config.Interval, parkedPoll)
	case errors.Is(out.err, state.ErrHeld):
		return min(r.config.Interval, r.config.LeaseTTL)
	case errors.Is(out.err, state.ErrBudget):
		return min(r.config.Interval, budgetPoll)
	}
	failures := 0
	r.learn(realm, func(known *realmState) { failures = known.failures })
	return r.backOff(failures)
}

// backOff is when to ask again after so many failures in a row: from the retry interval
// up to the regular one.
func (r *Reconciler) backOff(failures int) time.Duration {
	d := min(r.config.RetryInterval, r.config.Interval)
	for range min(failures-1, 20) {
		d = min(2*d, r.config.Interval)
	}
	return d
}

// rest is how long it is until the next scan of the whole realm.
func (r *Reconciler) rest(ctx context.Context, p state.Pace) time.Duration {
	return min(max(p.Scanned.Add(r.interval(ctx, p)).Sub(r.now()), 0), r.config.Interval)
}

// retries are the entities that were refused lately and that are to be asked for again
// now, if nothing else is due: then only they are.
func (r *Reconciler) retries(ctx context.Context, realm string, x occasion) ([]string, error) {
	if x.pace.Scanned.IsZero() || x.pace.Full.IsZero() || r.rest(ctx, x.pace) <= r.config.PollInterval {
		return nil, nil
	}
	refused, err := r.readRefused(ctx, realm)
	if err != nil {
		return nil, err
	}
	all, next := refusedNow(refused)
	if next.IsZero() || next.After(r.now().Add(r.config.PollInterval)) {
		return nil, nil
	}
	conn, err := r.connections.Get(ctx, realm)
	if err != nil || r.late(x, conn) || x.repairs(conn) {
		return nil, err
	}
	// Others who have made the realm due wait for a scan of all of it.
	if absent, err := r.state.HasAbsences(ctx, realm); err != nil || absent {
		return nil, err
	}
	if follow, err := r.state.FollowUps(ctx, realm); err != nil || len(follow) > 0 {
		return nil, err
	}
	var names []string
	for _, one := range all {
		if !one.Lasting {
			names = append(names, one.Entity)
		}
	}
	return names, nil
}

const (
	// parkedPoll is how long a reconnect stays unnoticed at most, should whoever made
	// it not have made the realm due.
	parkedPoll = 5 * time.Minute
	// budgetPoll: the month may be over, or the budget raised.
	budgetPoll = time.Hour
)
