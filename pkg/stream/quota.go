package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// quota keeps the messages of one kind, or of one company, from filling a stream for the
// others. The kind is the third token of a subject (a reason, a sink), the company the
// last. It says "full" sooner than the broker does; both are ErrFull.
//
// The broker counts messages by subject, not bytes: the size of a kind is estimated by
// some of its messages. What other processes have published is known refreshQuota later.
type quota struct {
	stream  string
	kind    float64         // of the stream, at most, for one kind
	company float64         // for one company; 0 is no limit
	others  float64         // for all kinds but those in reserved together
	reserve map[string]bool // kinds for which the rest is kept

	mu        sync.Mutex // guards the rest
	at        time.Time
	asking    chan struct{} // closed when the broker has answered; nil if it is not asked
	over      bool          // the connection is closed
	most      float64       // bytes that the stream may have
	used      float64       // bytes it has
	kinds     map[string]float64
	companies map[string]float64
}

const (
	refreshQuota = 2 * time.Second
	quotaTimeout = time.Second
)

func retryQuota() *quota { return &quota{stream: RetryStream, kind: 0.75, others: 1} }

func deadQuota() *quota {
	return &quota{
		stream: DeadStream, kind: 0.5, company: 0.125, others: 0.75,
		reserve: map[string]bool{string(ReasonUnreadable): true, string(ReasonInvalidEnvelope): true},
	}
}

// room returns an error that is ErrFull if m has no room on its stream. Without an answer
// of the broker it has.
func (q *quota) room(ctx context.Context, c *Conn, m *nats.Msg) error {
	q.refresh(ctx, c)
	kind, company := placeOf(m.Subject)
	size := float64(weight(m.Data, m.Header))
	q.mu.Lock()
	defer q.mu.Unlock()
	share, whose := 0.0, ""
	over := func(have, most float64, of string) {
		if most > 0 && q.most > 0 && have+size > most*q.most {
			share, whose = most, of
		}
	}
	over(q.kinds[kind], q.kind, kind)
	if company != noCompany {
		over(q.companies[company], q.company, "company "+company)
	}
	if !q.reserve[kind] {
		over(q.used, q.others, "all but what room is kept for")
	}
	if whose != "" {
		return fmt.Errorf("%w: publish %s: %w: %s may have %.3g of %s", ErrNotDurable, id(m), ErrFull, whose, share, q.stream)
	}
	return nil
}

// noCompany is the token of an empty realm.
const noCompany = "_"

// put notes what was published since the broker was asked.
func (q *quota) put(m *nats.Msg) {
	kind, company := placeOf(m.Subject)
	size := float64(weight(m.Data, m.Header))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += size
	if q.kinds != nil {
		q.kinds[kind] += size
		q.companies[company] += size
	}
}

// forget has the broker asked again: something was deleted.
func (q *quota) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at = time.Time{}
}

// refresh asks the broker if it was not asked lately, and waits for the answer for a
// moment; the publishes go on without it. It asks in a goroutine: the client waits for
// its socket whatever the context says, see outbox.
func (q *quota) refresh(ctx context.Context, c *Conn) {
	q.mu.Lock()
	if q.asking == nil && !q.over && time.Since(q.at) >= refreshQuota {
		q.asking = make(chan struct{})
		c.asking.Go(func() { q.renew(c) })
	}
	asking := q.asking
	stale := q.most == 0 || time.Since(q.at) >= 2*refreshQuota
	q.mu.Unlock()
	if asking == nil || !stale {
		return
	}
	// The message is more urgent: most of the caller's time is left for it.
	wait := quotaTimeout
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/4)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-asking:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop has nobody asked any more.
func (q *quota) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
}

func (q *quota) renew(c *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	most, used, kinds, companies, err := q.ask(ctx, c)
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.asking)
	q.asking, q.at = nil, time.Now()
	if err == nil {
		q.most, q.used, q.kinds, q.companies = most, used, kinds, companies
	}
}

func (q *quota) ask(ctx context.Context, c *Conn) (most, used float64, kinds, companies map[string]float64, err error) {
	s, err := c.js.Stream(ctx, q.stream)
	if err != nil {
		return 0, 0, nil, nil, err
	}
	kinds, companies = map[string]float64{}, map[string]float64{}
	info := s.CachedInfo()
	most, used = float64(max(info.Config.MaxBytes, 0)), float64(info.State.Bytes)
	if used < most/16 {
		return most, used, kinds, companies, nil // far from any share
	}
	if info, err = s.Info(ctx, jetstream.WithSubjectFilter(">")); err != nil {
		return 0, 0, nil, nil, err
	}
	mean, err := meanSizes(ctx, s, info.State.Subjects)
	if err != nil {
		return 0, 0, nil, nil, err
	}
	total := 0.0
	for subject, n := range info.State.Subjects {
		kind, company := placeOf(subject)
		size := float64(n) * mean[kind]
		kinds[kind] += size
		companies[company] += size
		total += size
	}
	// The estimates add up to what there is.
	for _, sizes := range []map[string]float64{kinds, companies} {
		for name := range sizes {
			sizes[name] *= used / max(total, 1)
		}
	}
	return most, used, kinds, companies, nil
}

// samples is how many messages of a kind are looked at, each of another company.
const samples = 4

// meanSizes is about how large a message of each kind is.
func meanSizes(ctx context.Context, s jetstream.Stream, subjects map[string]uint64) (map[string]float64, error) {
	byKind := map[string][]string{}
	for subject := range subjects {
		kind, _ := placeOf(subject)
		byKind[kind] = append(byKind[kind], subject)
	}
	means := map[string]float64{}
	for kind, of := range byKind {
		// Those with the most messages say the most.
		slices.SortFunc(of, func(a, b string) int { return int(subjects[b]) - int(subjects[a]) })
		sum, weights := 0.0, 0.0
		for _, subject := range of[:min(len(of), samples)] {
			m, err := s.GetLastMsgForSubject(ctx, subject)
			if err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				continue // deleted meanwhile
			}
			n := float64(subjects[subject])
			sum, weights = sum+n*float64(weight(m.Data, m.Header)), weights+n
		}
		means[kind] = sum / max(weights, 1)
	}
	return means, nil
}

// weight is about what a message takes on the stream.
func weight(data []byte, h nats.Header) int {
	const overhead = 64
	n := len(data) + overhead
	for key, values := range h {
		for _, v := range values {
			n += len(key) + len(v) + 4
		}
	}
	return n
}

// placeOf is whose a subject is: lf.dead.<reason>.<realm>, lf.retry.<sink>.<pp>.<realm>.
func placeOf(subject string) (kind, company string) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 4 {
		return "", noCompany
	}
	return tokens[2], tokens[len(tokens)-1]
}
