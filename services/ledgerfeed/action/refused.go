package action

import (
	"fmt"
	"sync"
	"time"
)

const (
	// refusedEvery is how often what one sender repeats is recorded.
	refusedEvery = 10 * time.Minute
	// maxRefused bounds the senders that are told apart in that time; all others are one.
	maxRefused = 16
	others     = "others"
)

// refusals counts refused requests by who sent them. The first is recorded at once, the
// others together: whoever is refused all the time can fill neither the trail nor a log.
type refusals struct {
	now    func() time.Time
	record func(Entry)

	mu    sync.Mutex // guards what follows
	by    map[string]*refused
	timer *time.Timer
}

// refused are the requests of one sender that are not recorded yet.
type refused struct {
	newest Entry
	count  int
	since  time.Time
}

func newRefusals(now func() time.Time, record func(Entry)) *refusals {
	return &refusals{now: now, record: record, by: map[string]*refused{}}
}

func (r *refusals) add(e Entry) {
	if first := r.count(e); first {
		e.Count = 1
		r.record(e)
	}
}

// count reports whether it is the first of its sender.
func (r *refusals) count(e Entry) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		r.timer = time.AfterFunc(refusedEvery, r.flush)
	}
	sender := e.Who + " from " + e.From
	known := r.by[sender]
	if known == nil && len(r.by) < maxRefused {
		r.by[sender] = &refused{since: e.At}
		return true
	}
	if known == nil {
		if known = r.by[others]; known == nil {
			known = &refused{since: e.At}
			r.by[others] = known
		}
		e.Who, e.Role, e.From, e.Request = fmt.Sprintf("%s than %d", others, maxRefused), "", "", ""
	}
	known.count++
	known.newest = e
	return false
}

// flush records what was counted, and begins again.
func (r *refusals) flush() {
	r.mu.Lock()
	if r.timer != nil {
		r.timer.Stop()
	}
	counted := r.by
	r.by, r.timer = map[string]*refused{}, nil
	r.mu.Unlock()
	for _, one := range counted {
		if one.count == 0 {
			continue
		}
		e := one.newest
		e.Count, e.Since = one.count, one.since
		r.record(e)
	}
}
