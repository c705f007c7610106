package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// ErrUnreachable says that not one request was answered at all.
var ErrUnreachable = errors.New("nothing answers")

// lateAfter is when a request counts as late by the generator's own fault.
const lateAfter = 10 * time.Millisecond

// Run sends the load and returns what it measured. It ends early with ctx, and
// then returns what was measured until then. The error is about the options, or
// ErrUnreachable.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	began := time.Now()
	r := &run{o: o, began: began, start: began.Add(o.Warmup), end: began.Add(o.Warmup + o.Duration), number: firstNumber(), client: newClient(o)}
	r.tally = newTally(r.start)
	defer r.client.CloseIdleConnections()

	progress, stop := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	reporting.Go(func() { r.show(progress) })
	var workers sync.WaitGroup
	for i := range o.Connections {
		workers.Go(func() { r.work(ctx, i) })
	}
	workers.Wait()
	stop()
	reporting.Wait()

	report := r.tally.report(r.measured())
	if report.Offered > 0 && report.Statuses[noConnection] == report.Offered {
		return report, fmt.Errorf("%s: %w: %w", o.URL, ErrUnreachable, *r.lastErr.Load())
	}
	return report, nil
}

type run struct {
	o          Options
	began      time.Time
	start, end time.Time // of the measured time
	number     uint64    // of the first request
	client     *fasthttp.HostClient
	tally      *tally
	taken      atomic.Uint64
	lastErr    atomic.Pointer[error]
	lastAnswer atomic.Int64 // Unix nanoseconds
}

const (
	timedOut     = "timeout"
	noConnection = "no connection"
	notSent      = "not sent"
)

// work sends what is due next, again and again.
func (r *run) work(ctx context.Context, worker int) {
	t := newTemplate(r.o)
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(r.o.URL)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json; charset=utf-8")
	req.Header.SetUserAgent("intuit_notification_server/1.0")
	for {
		n := r.taken.Add(1) - 1
		due, free := r.due(n), time.Now()
		if !due.Before(r.end) || !sleepUntil(ctx, due) {
			return
		}
		body, signature := t.next(r.number + n)
		req.SetBodyRaw(body)
		req.Header.SetBytesV("Intuit-Signature", signature)
		sent := time.Now()
		status := notSent
		if sent.Before(r.end.Add(r.o.Timeout)) {
			status = r.send(req, resp)
		}
		answered := time.Now()
		if !due.Before(r.start) {
			r.lastAnswer.Store(answered.UnixNano())
			r.tally.add(worker, status, due, sent, answered, free.Before(due) && sent.Sub(due) > lateAfter)
		}
	}
}

// due is when request n is to be sent: now, if the answer before it is what it
// waits for.
func (r *run) due(n uint64) time.Time {
	if r.o.Rate == 0 {
		return time.Now()
	}
	return r.began.Add(time.Duration(float64(n) / r.o.Rate * float64(time.Second)))
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) send(req *fasthttp.Request, resp *fasthttp.Response) string {
	err := r.client.DoTimeout(req, resp, r.o.Timeout)
	if err == nil {
		return strconv.Itoa(resp.StatusCode())
	}
	r.lastErr.Store(&err)
	var op *net.OpError
	switch {
	case errors.Is(err, fasthttp.ErrTimeout), errors.Is(err, fasthttp.ErrDialTimeout):
		return timedOut
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		return noConnection
	default:
		return "broken"
	}
}

// measured is how long the answers that count took to come in: at least the
// duration, so that a server that answers late is not credited for it.
func (r *run) measured() time.Duration {
	last := time.Unix(0, r.lastAnswer.Load())
	if r.lastAnswer.Load() == 0 {
		return 0
	}
	if r.o.Rate == 0 || last.Before(r.end) {
		return last.Sub(r.start)
	}
	return max(last.Sub(r.start), r.o.Duration)
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
		case <-tick.C:
			r.o.Progress(r.tally.report(max(0, time.Since(r.start))))
		}
	}
}
