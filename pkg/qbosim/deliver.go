package qbosim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// ackTimeout is how long the app has to answer.
const ackTimeout = 3 * time.Second

// retries are Intuit's: the last one repeats for ever.
var retries = [...]time.Duration{
	10 * time.Second, 20 * time.Second, 30 * time.Second, 5 * time.Minute,
	20 * time.Minute, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour,
}

// delivery is one POST: the same bytes at every attempt.
type delivery struct {
	body    []byte
	header  http.Header
	seqs    []uint64
	tries   int
	retryAt time.Time
}

// delivery never fails: all it encodes are strings.
func (s *Sim) delivery(events []event, format Format) *delivery {
	d := &delivery{header: http.Header{}, retryAt: time.Now()}
	rng := s.draw("delivery", count(events[0].Seq))
	var content any
	if format == Legacy {
		entities := make([]legacyEntity, len(events))
		for i, e := range events {
			entities[i] = e.legacy(s)
		}
		content = map[string]any{"eventNotifications": []any{map[string]any{
			"realmId": events[0].Realm, "dataChangeEvent": map[string]any{"entities": entities},
		}}}
	} else {
		list := make([]cloudEvent, len(events))
		for i, e := range events {
			list[i] = e.cloud(s)
		}
		content = list
	}
	d.body, _ = json.Marshal(content)
	for _, e := range events {
		d.seqs = append(d.seqs, e.Seq)
	}
	s.headers(d.header, format, rng)
	d.header.Set("Intuit-Signature", webhook.Sign(d.body, s.verifier))
	return d
}

// createdMillis is the form of intuit-created-time with CloudEvents.
const createdMillis = "2006-01-02T15:04:05.000Z07:00"

// headers sets those of a format: of CloudEvents as recorded in 2026
// (testdata/ce_captured_headers_2026.txt), of the legacy format as on Intuit's page.
func (s *Sim) headers(h http.Header, format Format, rng *rand.Rand) {
	if format == Legacy {
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("Accept", "application/json")
		h.Set("User-Agent", "intuit_notification_server/0.1")
		h.Set("Intuit-Created-Time", s.now().In(zones[0]).Format(offsetWithoutColon))
		h.Set("Intuit-Notification-Schema-Version", "0.1")
		h.Set("Intuit-T-Id", uuid(rng))
		return
	}
	h.Set("Content-Type", "application/cloudevents-batch+json; charset=utf-8")
	h.Set("User-Agent", "intuit_notification_server/1.0")
	h.Set("Intuit-Created-Time", s.now().UTC().Format(createdMillis))
	h.Set("Intuit-Notification-Schema-Version", "2.0")
	h.Set("Intuit-Signature-Algorithm", "HMAC-SHA256")
	h.Set("Intuit-Signature-Id", uuid(rng))
	h.Set("Intuit-T-Id", uuid(rng))
}

// poster sends deliveries. It follows no redirect: a redirect is a failure.
type poster struct{ client *http.Client }

func newPoster() poster {
	return poster{&http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second},
		Timeout:       ackTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send returns nil for exactly 200.
func (p poster) send(ctx context.Context, url string, d *delivery) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.body))
	if err != nil {
		return err
	}
	req.Header = d.header.Clone()
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// Run sends webhooks until ctx ends. What is unacknowledged then stays queued,
// for the next Run or, with a journal, the next simulator.
func (s *Sim) Run(ctx context.Context) error {
	h := s.hooks
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if at, ok := h.next(); ok {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-due:
			h.dispatch(ctx, false, false)
		}
	}
}

// FlushWebhooks sends what is queued without waiting for aggregation, delays
// or a retry that is due later, and returns nil once all is acknowledged. A
// delivery that fails again is retried by the schedule. It works with and
// without a Run.
func (s *Sim) FlushWebhooks(ctx context.Context) error {
	h := s.hooks
	for retryNow := true; !s.Settled(); retryNow = false {
		h.dispatch(ctx, true, retryNow)
		at, ok := h.next()
		if !ok && !s.Settled() {
			return errors.New("flush webhooks: no webhook URL is set")
		}
		if h.blocked() {
			timer := time.NewTimer(time.Until(at))
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("flush webhooks: %w", err)
		}
	}
	return nil
}

func (h *hooks) blocked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.out) > 0
}

// dispatch sends all that may go now, up to the first failure.
func (h *hooks) dispatch(ctx context.Context, all, retryNow bool) {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-h.turn }()
	for ctx.Err() == nil {
		h.mu.Lock()
		h.formLocked(all)
		url := h.url
		if url == "" || len(h.out) == 0 || !retryNow && h.out[0].retryAt.After(time.Now()) {
			h.mu.Unlock()
			return
		}
		d := h.out[0]
		h.mu.Unlock()
		if err := h.post.send(ctx, url, d); err != nil {
			if ctx.Err() == nil {
				h.failed(d, err)
			}
			return
		}
		h.acknowledged(d)
	}
}

func (h *hooks) failed(d *delivery, err error) {
	h.mu.Lock()
	wait := retries[min(d.tries, len(retries)-1)]
	d.tries++
	d.retryAt = time.Now().Add(time.Duration(float64(wait) * h.sim.retryScale))
	h.counts.attempts++
	h.counts.failures++
	h.mu.Unlock()
	h.sim.log.Warn("webhook not acknowledged", zap.Int("attempt", d.tries), zap.Int("count", len(d.seqs)), zap.Error(err))
}

// acknowledged forgets the delivery, in the journal too: a crash before that
// line sends it again.
func (h *hooks) acknowledged(d *delivery) {
	if err := h.sim.journal.append(entry{Acked: d.seqs}); err != nil {
		h.sim.log.Error("acknowledgement not kept", zap.Error(err))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = h.out[1:]
	h.counts.attempts++
	h.counts.webhooks++
	h.counts.events += len(d.seqs)
}
