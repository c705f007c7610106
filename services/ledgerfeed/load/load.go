package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// ErrUnreachable says that no connection could be made.
var ErrUnreachable = errors.New("nothing answers")

const (
	// lateAfter is when a request counts as late by the generator's own fault.
	lateAfter = 10 * time.Millisecond
	// reachWithin is how long the first connection may take.
	reachWithin = 2 * time.Second
	// afterRefusal is how long a worker of a closed loop waits when it got no
	// connection: it would keep a processor busy with nothing.
	afterRefusal = 50 * time.Millisecond
)

// Run sends the load and returns what it measured. When ctx ends it sends no
// more, waits for the answers to come, at most for o.Timeout, and returns what
// was measured until then. The error is about the options, or ErrUnreachable:
// the server was not there before the start.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	t := newTarget(o)
	if err := t.reach(ctx, min(reachWithin, o.Timeout)); err != nil {
		return Report{}, fmt.Errorf("%s: %w: %w", o.URL, ErrUnreachable, err)
	}
	r, err := newRun(ctx, o, t.client(o))
	if err != nil {
		return Report{}, err
	}
	defer r.pacer.close()
	defer r.client.CloseIdleConnections()

	progress, stop := context.WithCancel(ctx)
	var reporting, workers sync.WaitGroup
	reporting.Go(func() { r.show(progress) })
	for i := range o.Connections {
		workers.Go(func() { r.work(ctx, i) })
	}
	cancelled := make(chan time.Time, 1)
	unwatch := context.AfterFunc(ctx, func() { cancelled <- time.Now() })
	workers.Wait()
	ended := r.tally.end
	if ctx.Err() != nil {
		ended = <-cancelled
	}
	unwatch()
	stop()
	reporting.Wait()
	return r.tally.report(ended), nil
}

type run struct {
	o      Options
	first  *template
	client *fasthttp.HostClient
	pacer  *pacer
	tally  *tally
}

func newRun(ctx context.Context, o Options, client *fasthttp.HostClient) (*run, error) {
	began := time.Now()
	if o.RunID == 0 {
		o.RunID = began.UnixNano()
	}
	start := began.Add(o.Warmup)
	end := start.Add(o.Duration)
	p, err := newPacer(ctx, o, began, end)
	if err != nil {
		return nil, err
	}
	return &run{o: o, first: newTemplate(o), client: client, pacer: p, tally: newTally(start, end)}, nil
}

// work sends what is due next, again and again.
func (r *run) work(ctx context.Context, worker int) {
	var w *sender // made when it is needed: most of many workers may have nothing to do
	for {
		free := time.Now()
		s, ok := r.pacer.next(ctx)
		if !ok {
			return
		}
		if w == nil {
			w = r.newSender()
			defer w.close()
		}
		q := request{outcome: notSent, due: s.due}
		// Else it waited for a connection all its time: its sender would have
		// given up.
		if s.early || time.Since(s.due) < r.o.Timeout {
			w.prepare(s.n)
			if !r.pacer.wait(ctx, s) {
				return
			}
			q.sent = time.Now()
			q.late = r.o.Rate > 0 && free.Before(s.due) && q.sent.Sub(s.due) > lateAfter
			q.outcome, q.err = w.send()
		}
		q.answered = time.Now()
		r.tally.add(worker, q)
		if r.o.Rate == 0 && q.outcome.unconnected() {
			pause(ctx, afterRefusal)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// sender is one request that is filled and sent again and again.
type sender struct {
	client   *fasthttp.HostClient
	template *template
	timeout  time.Duration
	req      *fasthttp.Request
	resp     *fasthttp.Response
}

func (r *run) newSender() *sender {
	s := &sender{client: r.client, template: r.first.clone(r.o.Token), timeout: r.o.Timeout, req: fasthttp.AcquireRequest(), resp: fasthttp.AcquireResponse()}
	s.req.SetRequestURI(r.o.URL)
	s.req.Header.SetMethod(fasthttp.MethodPost)
	s.req.Header.SetContentType("application/json; charset=utf-8")
	s.req.Header.SetUserAgent("intuit_notification_server/1.0")
	return s
}

func (s *sender) prepare(n uint64) {
	body, signature := s.template.next(n)
	s.req.SetBodyRaw(body)
	s.req.Header.SetBytesV(webhook.SignatureHeader, signature)
}

func (s *sender) send() (outcome, error) {
	if err := s.client.DoTimeout(s.req, s.resp, s.timeout); err != nil {
		return failure(err), err
	}
	return outcome(s.resp.StatusCode()), nil
}

func (s *sender) close() {
	fasthttp.ReleaseRequest(s.req)
	fasthttp.ReleaseResponse(s.resp)
}

// show calls Progress about every second.
func (r *run) show(ctx context.Context) {
	if r.o.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.o.Progress(r.tally.report(now))
		}
	}
}
