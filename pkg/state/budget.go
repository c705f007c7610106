package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// ErrBudget says that the month's calls are used up, or all but those that are
// kept for what goes first: live changes, then scans after an outage, then the usual
// scans.
var ErrBudget = errors.New("the month's calls are used up")

const (
	// What of a month's calls backfills, scans and repairs leave to those before them.
	backfillReserve, scanReserve, repairReserve = 0.1, 0.05, 0.02
	// usageAge is how old the counts of all replicas may be, and with it how long a
	// replica keeps its own to itself.
	usageAge = 2 * time.Second
	// usageKept is how long a month is remembered: for the forecast of the next.
	usageKept = 70 * 24 * time.Hour
	// forecastDays is how many whole days the forecast goes by.
	forecastDays = 7
)

// Usage is how many metered calls the app has made in a month: those that
// succeeded, of all realms and replicas. Intuit meters reads as CorePlus calls,
// per app and calendar month, see "App Partner Program". Months are of UTC.
type Usage struct {
	Month    time.Time // its first moment
	Live     int64
	Backfill int64
	Budget   int64 // calls a month; 0 for none
	// Forecast is how many there will be at the end of the month, if the days to
	// come are as the last seven whole days, or as this one where there are none.
	Forecast int64
	// PerDay is the mean that Forecast goes by.
	PerDay float64
}

// Total is the sum over the priorities.
func (u Usage) Total() int64 { return u.Live + u.Backfill }

// Budget counts the metered calls of all replicas and refuses more than a month's.
// Each replica tells the others of its calls within some seconds, so that the end
// is met with that accuracy. It is safe for concurrent use.
type Budget struct {
	store   *Store
	monthly int64

	mu      sync.Mutex // guards the rest
	pending map[string]int64
	realms  map[realmDay]int64 // pending, too
	since   time.Time          // of the oldest in pending
	usage   Usage
	asked   time.Time
}

// Budget makes a budget of so many calls a month; 0 only counts.
func (s *Store) Budget(monthly int64) *Budget {
	return &Budget{store: s, monthly: monthly, pending: map[string]int64{}, realms: map[realmDay]int64{}}
}

// Observe counts a call; it is for qbo.Options.Observe. Failed calls are free.
func (b *Budget) Observe(c qbo.Call) {
	if c.Err != nil {
		return
	}
	class := classLive
	if c.Priority != qbo.Live {
		class = classBackfill
	}
	now := b.store.now().UTC()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		b.since = now
	}
	b.pending[now.Format("2006-01 02")+":"+class]++
	b.realms[realmDay{c.Realm, now.Format(time.DateOnly)}]++
	if class == classLive {
		b.usage.Live++
	} else {
		b.usage.Backfill++
	}
}

const (
	classLive     = "live"
	classBackfill = "backfill"
)

// Allow is nil if a call may be made, ErrBudget if not, and otherwise Redis's error.
func (b *Budget) Allow(ctx context.Context, p qbo.Priority) error {
	if b.monthly <= 0 && !b.late() {
		return nil
	}
	u, err := b.Usage(ctx)
	switch {
	case err != nil:
		return err
	case b.monthly <= 0:
		return nil
	case float64(u.Total()) >= (1-reserve(p))*float64(b.monthly):
		return fmt.Errorf("%w: %d of %d in %s", ErrBudget, u.Total(), b.monthly, u.Month.Format("January 2006"))
	}
	return nil
}

// reserve is the part of a month's calls that one of the priority leaves to others.
func reserve(p qbo.Priority) float64 {
	switch p {
	case qbo.Live:
		return 0
	case qbo.Repair:
		return repairReserve
	case qbo.Scan:
		return scanReserve
	}
	return backfillReserve
}

// late reports whether the others should be told of our calls.
func (b *Budget) late() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending) > 0 && b.store.now().Sub(b.since) >= usageAge
}

// Usage tells the others of our calls and returns those of all, at most some seconds
// old.
func (b *Budget) Usage(ctx context.Context) (Usage, error) {
	now := b.store.now().UTC()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	b.mu.Lock()
	if b.usage.Month.Equal(month) && now.Sub(b.asked) < usageAge && now.Sub(b.asked) >= 0 {
		defer b.mu.Unlock()
		return b.usage, nil
	}
	told, realms := b.pending, b.realms
	b.pending, b.realms = map[string]int64{}, map[realmDay]int64{}
	b.asked = now // one asks, the others go by what is known meanwhile
	b.mu.Unlock()

	usage, err := b.exchange(ctx, now, month, told, realms)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		for field, n := range told {
			b.pending[field] += n
		}
		for at, n := range realms {
			b.realms[at] += n
		}
		b.asked = time.Time{}
		return Usage{}, fmt.Errorf("count the month's calls: %w", err)
	}
	for field, n := range b.pending { // made since
		if strings.HasSuffix(field, classLive) {
			usage.Live += n
		} else {
			usage.Backfill += n
		}
	}
	b.usage = usage
	return usage, nil
}

func (b *Budget) exchange(ctx context.Context, now, month time.Time, told map[string]int64, realms map[realmDay]int64) (Usage, error) {
	ctx, cancel := b.store.bound(ctx)
	defer cancel()
	before := month.AddDate(0, -1, 0)
	var this, last *redis.MapStringStringCmd
	_, err := b.store.db.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for field, n := range told {
			of, day, _ := strings.Cut(field, " ")
			pipe.HIncrBy(ctx, callsKey(of), day, n)
			pipe.Expire(ctx, callsKey(of), usageKept)
		}
		tellRealms(ctx, pipe, realms)
		this = pipe.HGetAll(ctx, callsKey(month.Format("2006-01")))
		last = pipe.HGetAll(ctx, callsKey(before.Format("2006-01")))
		return nil
	})
	if err != nil {
		return Usage{}, err
	}
	usage := Usage{Month: month, Budget: b.monthly}
	days := map[time.Time]int64{}
	for from, fields := range map[time.Time]map[string]string{month: this.Val(), before: last.Val()} {
		for field, text := range fields {
			day, class, _ := strings.Cut(field, ":")
			n, err1 := strconv.ParseInt(text, 10, 64)
			d, err2 := strconv.Atoi(day)
			if err := errors.Join(err1, err2); err != nil {
				return Usage{}, fmt.Errorf("%s of %s: %w", field, from.Format("2006-01"), err)
			}
			days[from.AddDate(0, 0, d-1)] += n
			switch {
			case !from.Equal(month):
			case class == classLive:
				usage.Live += n
			default:
				usage.Backfill += n
			}
		}
	}
	usage.PerDay = perDay(days, now)
	usage.Forecast = usage.Total() + int64(usage.PerDay*month.AddDate(0, 1, 0).Sub(now).Hours()/24)
	return usage, nil
}

// perDay is the mean of the whole days before now that are known, seven at most; of
// today if there are none.
func perDay(days map[time.Time]int64, now time.Time) float64 {
	today := now.Truncate(24 * time.Hour)
	sum, n := int64(0), 0
	first := today
	for day := range days {
		if day.Before(first) {
			first = day
		}
	}
	for d := today.AddDate(0, 0, -1); n < forecastDays && !d.Before(first); d = d.AddDate(0, 0, -1) {
		sum += days[d]
		n++
	}
	if n > 0 {
		return float64(sum) / float64(n)
	}
	if part := now.Sub(today).Hours() / 24; part > 0.01 {
		return float64(days[today]) / part
	}
	return 0
}

func callsKey(month string) string { return durable + "calls:{app}:" + month }
