package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Options say where to post. URL and Secrets are required.
type Options struct {
	// Name is the sink's name in the marks; "webhook" if empty.
	Name string
	// URL of the endpoint, http or https, without user and password.
	URL string
	// Secrets sign: one, or the new and the old one while they are changed. Each is
	// base64 with or without the prefix whsec_.
	Secrets []secret.String
	// Batch is how many changes a request carries at most. 1, the default, is a
	// single CloudEvent; more is a batch of them, also of one.
	Batch int
	// Concurrency is how many requests are under way at most; 0 is 8.
	Concurrency int
	// Rate is how many requests a second are sent at most; 0 is no limit.
	Rate float64
	// Timeout of a request; 0 is 15 seconds.
	Timeout time.Duration
	// Allow are private networks that may be connected to all the same.
	Allow []netip.Prefix
	// Proxy is where requests go through, http, https or socks5; empty is none, whatever
	// the environment says. The proxy then decides which addresses are connected to.
	Proxy secret.String
	// CAFile is a PEM file with authorities to trust beside the system's.
	CAFile string
	// ClientCertFile and ClientKeyFile are PEM files with what to show to an endpoint that
	// asks for a certificate.
	ClientCertFile, ClientKeyFile string
	// Headers are sent with each request.
	Headers http.Header
}

// Sink posts to an endpoint. It is safe for concurrent use.
type Sink struct {
	o      Options // Secrets and Headers are in with
	with   atomic.Pointer[with]
	client *http.Client
	slots  *semaphore.Weighted
	rate   *rate.Limiter
	closed atomic.Bool
	until  atomic.Int64 // Unix ns: before that the endpoint wants no request
}

// with is what requests are made with, and may change.
type with struct {
	signers []*standardwebhooks.Webhook
	headers http.Header
}

const (
	// maxBytes ends a batch early: endpoints take some MB at most.
	maxBytes  = 1 << 20
	maxAnswer = 64 << 10
	// answerTimeout bounds how long the rest of an answer may take after its headers.
	answerTimeout = time.Second
	// afterGone is when an endpoint that said 410 is asked again.
	afterGone = time.Hour
)

// Open checks the options; it sends nothing.
func Open(o Options) (*Sink, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("webhook sink: want the URL http://… or https://… of the endpoint")
	case u.User != nil:
		return nil, errors.New("webhook sink: the URL must not hold a user or password: requests are signed")
	}
	if o.Name == "" {
		o.Name = "webhook"
	}
	o.Batch, o.Concurrency = max(o.Batch, 1), max(o.Concurrency, 0)
	if o.Concurrency == 0 {
		o.Concurrency = 8
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	s := &Sink{o: o, slots: semaphore.NewWeighted(int64(o.Concurrency)), rate: rate.NewLimiter(rate.Inf, 0)}
	if o.Rate > 0 {
		s.rate = rate.NewLimiter(rate.Limit(o.Rate), max(int(o.Rate), 1))
	}
	if err := s.SetSecrets(o.Secrets, o.Headers); err != nil {
		return nil, err
	}
	if s.client, err = newClient(o); err != nil {
		return nil, err
	}
	return s, nil
}

// How many bytes a secret has, from the specification of Standard Webhooks: "between 24
// bytes (192 bits) and 64 bytes (512 bits)".
const leastSecret, mostSecret = 24, 64

// secretSize is how many bytes a secret has that is base64.
func secretSize(text secret.String) int {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text.Reveal(), "whsec_"))
	if err != nil {
		return 0
	}
	return len(b)
}

// SetSecrets replaces what requests are signed with, and their headers, from the next
// request on.
func (s *Sink) SetSecrets(secrets []secret.String, headers http.Header) error {
	if len(secrets) == 0 {
		return errors.New("webhook sink: no secret to sign with: set processor.webhook_secrets to NAME=whsec_…")
	}
	next := &with{headers: headers}
	for i, text := range secrets {
		signer, err := standardwebhooks.NewWebhook(text.Reveal())
		if err != nil {
			return fmt.Errorf("webhook sink: secret %d is not base64 (whsec_…)", i+1)
		}
		if n := secretSize(text); n < leastSecret || n > mostSecret {
			return fmt.Errorf("webhook sink: secret %d has %d bytes, and must have %d to %d: make one with echo whsec_$(openssl rand -base64 32)", i+1, n, leastSecret, mostSecret)
		}
		next.signers = append(next.signers, signer)
	}
	if err := checkHeaders(headers); err != nil {
		return err
	}
	s.with.Store(next)
	return nil
}

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return s.o.Name }

// Close ends idle connections. A write under way is not ended.
func (s *Sink) Close() error {
	s.closed.Store(true)
	s.client.CloseIdleConnections()
	return nil
}

var errClosed = errors.New("webhook sink: closed")

// Write posts changes and returns when the endpoint has taken all of them; a
// *sink.PartialError says which it has not.
func (s *Sink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("post to the endpoint: %w", err)
	}
	errs := make([]error, len(changes))
	var parcels []parcel
	for i, c := range changes {
		p, err := s.pack(c)
		if err != nil {
			errs[i] = stream.Permanent(stream.ReasonSinkRefused, err)
			continue
		}
		p.index = i
		parcels = append(parcels, p)
	}
	var g errgroup.Group
	for _, batch := range batches(parcels, s.o.Batch) {
		g.Go(func() error {
			s.deliver(ctx, batch, errs)
			return nil
		})
	}
	_ = g.Wait() // the outcomes are in errs
	return sink.Partial(errs)
}

// parcel is one change, encoded.
type parcel struct {
	index int // in the call of Write
	id    string
	body  []byte
}

func (s *Sink) pack(c *ledgerfeedv1.Change) (parcel, error) {
	e, err := eventOf(c, s.o.Name)
	if err != nil {
		return parcel{}, err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return parcel{}, errNoJSON
	}
	return parcel{id: e.ID, body: body}, nil
}

// batches cuts at most so many, and so many bytes, into one request.
func batches(parcels []parcel, most int) (cut [][]parcel) {
	size := 0
	for _, p := range parcels {
		last := len(cut) - 1
		if last < 0 || len(cut[last]) == most || size+len(p.body) > maxBytes {
			cut, size, last = append(cut, nil), 0, last+1
		}
		cut[last] = append(cut[last], p)
		size += len(p.body)
	}
	return cut
}

// deliver posts a batch and notes the outcome of each of its changes. Of a batch
// that is refused for good, halves find out which change is meant.
func (s *Sink) deliver(ctx context.Context, batch []parcel, errs []error) {
	err := s.post(ctx, batch)
	if _, permanent := stream.AsPermanent(err); permanent && len(batch) > 1 {
		half := len(batch) / 2
		s.deliver(ctx, batch[:half], errs)
		s.deliver(ctx, batch[half:], errs)
		return
	}
	for _, p := range batch {
		errs[p.index] = err
	}
}

func (s *Sink) post(ctx context.Context, batch []parcel) error {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for a free connection: %w", err)
	}
	defer s.slots.Release(1)
	if wait := time.Until(time.Unix(0, s.until.Load())); wait > 0 {
		return stream.RetryAfter(errNotYet, wait)
	}
	lost, err := s.send(ctx, batch)
	if lost {
		_, err = s.send(ctx, batch) // the endpoint knows by the webhook-id if it has had it
	}
	if after, ok := stream.AskedDelay(err); ok {
		s.until.Store(time.Now().Add(after).UnixNano()) // it was said of the endpoint, not of this change
	}
	return err
}

// send makes one request. lost says that the connection ended before the answer: with GOAWAY,
// a reset, or without a word. An endpoint that restarts does that, and it works all the same.
func (s *Sink) send(ctx context.Context, batch []parcel) (lost bool, err error) {
	if err := s.rate.Wait(ctx); err != nil {
		return false, fmt.Errorf("wait for the rate of the endpoint: %w", err)
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	req, err := s.request(httptrace.WithClientTrace(within, trace), batch)
	if err != nil {
		return false, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		lost := connected.Load() && ctx.Err() == nil && !timedOut(err)
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, whose query may hold a token
		}
		if err = fmt.Errorf("post to the endpoint: %w", err); lost && sink.ReasonOf(err) == "other" {
			err = sink.Because("network", err)
		}
		return lost, err
	}
	defer resp.Body.Close()
	// So that the connection is used again. An answer that does not end must not keep the
	// next request waiting: what it means is known.
	defer time.AfterFunc(answerTimeout, cancel).Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return false, judge(resp)
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

var errNotYet = errors.New("the endpoint asked for a pause")

// request signs the batch now: the time is part of the signature.
func (s *Sink) request(ctx context.Context, batch []parcel) (*http.Request, error) {
	id, contentType, body := batch[0].id, "application/cloudevents+json", batch[0].body
	if s.o.Batch > 1 {
		id, contentType, body = join(batch)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("post to the endpoint: its URL cannot be used")
	}
	now := time.Now()
	var signatures []string
	with := s.with.Load()
	for _, signer := range with.signers {
		signature, err := signer.Sign(id, now, body)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		signatures = append(signatures, signature)
	}
	for name, values := range with.headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	// With it net/http repeats a request by itself that met a connection which the endpoint
	// was closing.
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set("Content-Type", contentType)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "ledgerfeed")
	}
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return req, nil
}

// join makes one body of a batch. Its id is made of those of its changes, so that
// the same batch sent again has the same one.
func join(batch []parcel) (id, contentType string, body []byte) {
	h := sha256.New()
	body = append(body, '[')
	for i, p := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, p.body...)
		fmt.Fprintf(h, "%d:%s", len(p.id), p.id)
	}
	return "batch-" + hex.EncodeToString(h.Sum(nil)[:16]), "application/cloudevents-batch+json", append(body, ']')
}

// judge says what an answer means.
func judge(resp *http.Response) error {
	text := fmt.Sprintf("the endpoint answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if target, err := resp.Location(); err == nil && resp.StatusCode < http.StatusBadRequest {
		// Without user and query, which may be secret.
		text += " to " + (&url.URL{Scheme: target.Scheme, Host: target.Host, Path: target.Path}).String() + ", which is not followed: correct the URL of the sink"
	}
	err := sink.Because("HTTP "+strconv.Itoa(resp.StatusCode), errors.New(text))
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		return stream.Permanent(stream.ReasonSinkRefused, err)
	case code == http.StatusGone:
		return stream.RetryAfter(err, afterGone)
	}
	if after := retryAfter(resp); after > 0 {
		return stream.RetryAfter(err, after)
	}
	return err
}

// retryAfter is what the endpoint asks for, in seconds or as a date; 0 for nothing.
func retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(seconds, 24*3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(time.Until(at), 24*time.Hour)
	}
	return 0
}
