package qbo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const (
	defaultTimeout = 30 * time.Second
	// maxTimeout is where the API itself gives up ("limits and throttles").
	maxTimeout = 120 * time.Second
	// defaultMinorVersion is the lowest that is served since 2025-08-01.
	defaultMinorVersion = 75
	// defaultMaxResponse holds 1,000 large transactions with room to spare.
	defaultMaxResponse = 64 << 20
	// defaultPenalty is Intuit's advice after a 429.
	defaultPenalty = 60 * time.Second
)

// Priority says which calls go first where a Limiter makes them wait.
type Priority int

const (
	// Live is for changes somebody waits for.
	Live Priority = iota
	// Repair is for scans after an outage or a lapsed authorisation.
	Repair
	// Scan is for scans of the usual rhythm.
	Scan
	// Backfill is for history.
	Backfill
)

// TokenSource provides access tokens. Both methods are called concurrently.
type TokenSource interface {
	// Token returns a token that is valid by the source's knowledge.
	Token(ctx context.Context, realm string) (secret.String, error)
	// Rejected says that the API answered 401 to the token: the next Token must
	// not return it again, or return an error while the source has no other.
	Rejected(ctx context.Context, realm string, token secret.String) error
}

// Limiter holds calls back. Both methods are called concurrently.
type Limiter interface {
	// Acquire waits for a turn. The client calls release once: when the answer has been
	// read, or after as long again as it waited for one before it gave up, 120 s since
	// the beginning at most, which is where the API gives up too.
	Acquire(ctx context.Context, realm string, p Priority) (release func(), err error)
	// Penalize says that the API refused a call of the realm as one too many:
	// for d there should be none.
	Penalize(ctx context.Context, realm string, d time.Duration) error
}

// Call is what Options.Observe hears: one HTTP request, so that a call tried
// again after a 401 is two.
type Call struct {
	Realm string
	Kind  string // cdc, query, read
	// Entity by canonical name; empty for CDC of several and for unknown ones.
	Entity   string
	Priority Priority
	Status   int           // 0 if there was no answer
	Took     time.Duration // without the wait for a turn
	Err      error         // nil for an answer that could be used
}

// Options are what a Client works with.
type Options struct {
	// BaseURL of the API; ProductionURL if empty.
	BaseURL string
	// HTTP sends the requests; nil for a client of the package's own. Redirects
	// are not followed unless it says so itself: they would carry the token.
	HTTP *http.Client
	// Tokens is required.
	Tokens TokenSource
	// Limiter may be nil: then nothing waits.
	Limiter Limiter
	// Timeout of one HTTP request, body included; 30 s if 0, at most 120 s. The
	// wait for a token and for a turn is bounded by the caller's context alone.
	Timeout time.Duration
	// MinorVersion of the API; 75 if 0.
	MinorVersion int
	// MaxResponse is the largest answer taken, in bytes after decompression;
	// 64 MiB if 0.
	MaxResponse int64
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Observe hears of every request, in the goroutine of the call; may be nil.
	Observe func(Call)
}

func (o Options) validate() error {
	switch {
	case o.Tokens == nil:
		return errors.New("qbo: Tokens is required")
	case o.Timeout < 0 || o.Timeout > maxTimeout:
		return fmt.Errorf("qbo: Timeout %s is not between 0 and %s", o.Timeout, maxTimeout)
	case o.MinorVersion < 0:
		return fmt.Errorf("qbo: MinorVersion %d is negative", o.MinorVersion)
	case o.MaxResponse < 0:
		return fmt.Errorf("qbo: MaxResponse %d is negative", o.MaxResponse)
	}
	return validURL("BaseURL", o.BaseURL)
}

func (o Options) withDefaults() Options {
	if o.BaseURL == "" {
		o.BaseURL = ProductionURL
	}
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.MinorVersion == 0 {
		o.MinorVersion = defaultMinorVersion
	}
	if o.MaxResponse == 0 {
		o.MaxResponse = defaultMaxResponse
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Call) {}
	}
	return o
}

// validURL says whether raw is empty or an absolute http(s) URL.
func validURL(field, raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("qbo: %s %q is not an http or https URL", field, raw)
	}
	return nil
}

// httpClient returns a copy of c, or a client of our own, that keeps
// connections and follows no redirect.
func httpClient(c *http.Client) *http.Client {
	var own http.Client
	if c != nil {
		own = *c
	} else if base, ok := http.DefaultTransport.(*http.Transport); ok {
		transport := base.Clone()
		transport.MaxIdleConnsPerHost = 32
		own.Transport = transport
	}
	if own.CheckRedirect == nil {
		own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &own
}
