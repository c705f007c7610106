package qbo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Client calls the API. It is safe for concurrent use and has nothing to close.
type Client struct {
	base     string
	http     *http.Client
	options  Options
	priority Priority
	includes *includes
}

// New makes a Client of priority Live.
func New(o Options) (*Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return &Client{base: o.BaseURL, http: httpClient(o.HTTP), options: o, includes: &includes{}}, nil
}

// With returns a client that shares everything with c but asks for its turns
// with another priority.
func (c *Client) With(p Priority) *Client {
	other := *c
	other.priority = p
	return &other
}

// WithMaxResponse returns a client that shares everything with c but takes no larger
// answers: for callers that can ask for less at a time.
func (c *Client) WithMaxResponse(bytes int64) *Client {
	other := *c
	other.options.MaxResponse = min(bytes, c.options.MaxResponse)
	return &other
}

// request is one call before it has a token.
type request struct {
	kind   string
	entity string
	realm  string
	method string
	path   string // below /v3/company/{realm}/, escaped
	query  url.Values
	body   string // of a POST: a statement
	plain  bool   // without IncludeFields
}

// do runs r and decodes its answer, a second time with another token if the
// first one is refused.
func (c *Client) do(ctx context.Context, r request, decode func(http.Header, []byte) error) error {
	if !segment(r.realm) {
		return fmt.Errorf("%s: no usable realm given", r.kind)
	}
	token, err := c.options.Tokens.Token(ctx, r.realm)
	if err != nil {
		return fmt.Errorf("%s: token of realm %s: %w", r.kind, r.realm, err)
	}
	err = c.once(ctx, r, token, decode)
	if !errors.Is(err, ErrUnauthorized) || MeaningOf(err) == MeaningCompanyAccess {
		return err // the person lost the right, and another token would not help
	}
	// Some of the others (100, 130) were answered to good tokens too. The source bounds how
	// often that costs a refresh, and holds the realm's calls back if it does not help.
	if c.takes(ctx, r, token) {
		return callAlone(err)
	}
	if err := c.reject(ctx, r, token, err); err != nil {
		return err
	}
	next, tokenErr := c.options.Tokens.Token(ctx, r.realm)
	if tokenErr != nil {
		// The source's error decides what happens next; the refusal is for a person.
		return fmt.Errorf("%s: new token of realm %s: %w (after %s)", r.kind, r.realm, tokenErr, err.Error())
	}
	err = c.once(ctx, r, next, decode)
	if !errors.Is(err, ErrUnauthorized) || next == token {
		return err
	}
	if c.takes(ctx, r, next) {
		return callAlone(err)
	}
	if rejected := c.reject(ctx, r, next, err); rejected != nil {
		return rejected
	}
	return err
}

// unfinished is a statement that no API runs. Its answer tells whether a token is taken,
// and costs nothing: refused calls are not metered.
const unfinished = "SELECT"

// takes reports whether the API takes a token that was refused to r: then an entity is
// refused to the realm, and to report the token would hold up all others.
func (c *Client) takes(ctx context.Context, r request, token secret.String) bool {
	probe := request{kind: "query", realm: r.realm, method: http.MethodGet, path: "query", query: url.Values{"query": {unfinished}}}
	err := c.once(ctx, probe, token, func(_ http.Header, body []byte) error {
		_, err := DecodeQuery(body)
		return err
	})
	return errors.Is(err, ErrInvalidQuery)
}

// callAlone marks a 401 as one to this call alone.
func callAlone(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		f.CallAlone = true
	}
	return err
}

// reject reports a token that was refused. The source decides whether there is another.
func (c *Client) reject(ctx context.Context, r request, token secret.String, refused error) error {
	if err := c.options.Tokens.Rejected(ctx, r.realm, token); err != nil {
		return fmt.Errorf("%w; report the token: %w", refused, err)
	}
	return nil
}

// once waits for a turn and sends r.
func (c *Client) once(ctx context.Context, r request, token secret.String, decode func(http.Header, []byte) error) error {
	release := func() {}
	if c.options.Limiter != nil {
		var err error
		if release, err = c.options.Limiter.Acquire(ctx, r.realm, c.priority); err != nil {
			return fmt.Errorf("%s: wait for the limiter of realm %s: %w", r.kind, r.realm, err)
		}
	}
	begun := time.Now()
	start := c.options.Now()
	status, err := c.send(ctx, r, token, decode)
	if took := time.Since(begun); givenUp(err) {
		// The API may not know yet that nobody waits: the call counts as long again.
		time.AfterFunc(min(took, maxTimeout-took), release)
	} else {
		defer release() // after a penalty
	}
	if err != nil {
		err = fmt.Errorf("%s of realm %s: %w", r.kind, r.realm, err)
	}
	c.options.Observe(Call{
		Realm: r.realm, Kind: r.kind, Entity: r.entity, Priority: c.priority,
		Status: status, Took: c.options.Now().Sub(start), Err: err,
	})
	return c.penalize(ctx, r.realm, err)
}

// givenUp says that the call ended on our side alone: the API has neither answered nor
// closed the connection.
func givenUp(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// penalize tells the limiter of a refused call, even when the caller has gone:
// the others need to know.
func (c *Client) penalize(ctx context.Context, realm string, err error) error {
	var f *Fault
	if c.options.Limiter == nil || !errors.As(err, &f) || !f.Is(ErrThrottled) {
		return err
	}
	wait := f.RetryAfter
	if wait == 0 {
		wait = defaultPenalty
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.Timeout)
	defer cancel()
	if penalized := c.options.Limiter.Penalize(ctx, realm, wait); penalized != nil {
		return fmt.Errorf("%w; penalize: %w", err, penalized)
	}
	return err
}

// send is one HTTP request under the deadline.
func (c *Client) send(ctx context.Context, r request, token secret.String, decode func(http.Header, []byte) error) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	req, err := c.request(ctx, r, token)
	if err != nil {
		return 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, network(err)
	}
	defer res.Body.Close()
	body, err := readBody(res.Body, c.options.MaxResponse)
	if err != nil {
		return res.StatusCode, err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		err = DecodeFault(res.StatusCode, res.Header, body)
	} else {
		err = decode(res.Header, body)
	}
	var f *Fault
	id := tid(res.Header)
	switch {
	case errors.As(err, &f):
		f.hide(token.Reveal())
		f.TID = id
		f.RetryAfter = retryAfter(res.Header)
	case err != nil && id != "":
		err = fmt.Errorf("%w (intuit_tid %s)", err, id)
	}
	return res.StatusCode, err
}

func (c *Client) request(ctx context.Context, r request, token secret.String) (*http.Request, error) {
	r.query.Set("minorversion", strconv.Itoa(c.options.MinorVersion))
	r.query.Set("include", IncludeFields)
	if r.plain {
		r.query.Del("include")
	}
	target := c.base + "/v3/company/" + url.PathEscape(r.realm) + "/" + r.path + "?" + encode(r.query)
	req, err := http.NewRequestWithContext(ctx, r.method, target, strings.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("User-Agent", "ledgerfeed")
	if r.method == http.MethodPost {
		req.Header.Set("Content-Type", "application/text")
	}
	return req, nil
}

// encode writes a query string with %20 for a space: "+" is read as a space by
// forms only.
func encode(values url.Values) string { return strings.ReplaceAll(values.Encode(), "+", "%20") }

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// network drops the URL that net/http puts into its errors: a statement of
// several KiB helps nobody in a log.
func network(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	return &networkError{err}
}

// scratch is what answers are read into. An answer may have megabytes and says only
// sometimes how many: a buffer that grows with each would be most of our garbage.
var scratch = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxScratch is how large a buffer may be that waits for the next answer.
const maxScratch = 4 << 20

// readBody reads at most limit bytes.
func readBody(body io.Reader, limit int64) ([]byte, error) {
	read := scratch.Get().(*bytes.Buffer)
	defer func() {
		if read.Cap() <= maxScratch {
			scratch.Put(read)
		}
	}()
	read.Reset()
	n, err := read.ReadFrom(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, &networkError{fmt.Errorf("read answer: %w", err)}
	}
	if n > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return bytes.Clone(read.Bytes()), nil
}

// date is the server's clock by its Date header, or zero.
func date(header http.Header) time.Time {
	at, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
