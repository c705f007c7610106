// Package qbo is a client of the QuickBooks Online API.
package qbo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

var (
	ErrUnauthorized = errors.New("unauthorized")
	ErrForbidden    = errors.New("forbidden")
	ErrThrottled    = errors.New("throttled")
	ErrNotFound     = errors.New("not found")
	ErrInvalidQuery = errors.New("invalid query")
	ErrPoison       = errors.New("poison record")
	ErrTooOld       = errors.New("changedSince is too old")
	ErrServer       = errors.New("server error")
	ErrTooLong      = errors.New("request too long")
	ErrTooLarge     = errors.New("answer too large")
	ErrInvalidGrant = errors.New("invalid grant")
)

type Entity struct {
	Name        string
	ID          string
	SyncToken   string
	LastUpdated time.Time
	Deleted     bool
	Raw         json.RawMessage
}

func (e Entity) Version() int64 { return Version(e.LastUpdated, e.SyncToken, e.Deleted) }

func Version(updated time.Time, syncToken string, deleted bool) int64 { return 0 }
func TombstoneVersion(at time.Time) int64                             { return 0 }
func IsTombstone(v int64) bool                                        { return false }
func VersionTime(v int64) time.Time                                   { return time.Time{} }

type Priority int

const (
	Live Priority = iota
	Backfill
)

type TokenSource interface {
	Token(ctx context.Context, realm string) (secret.String, error)
	Rejected(ctx context.Context, realm string, token secret.String) error
}

type Limiter interface {
	Acquire(ctx context.Context, realm string, p Priority) (release func(), err error)
	Penalize(ctx context.Context, realm string, d time.Duration) error
}

type Options struct {
	BaseURL      string
	HTTP         *http.Client
	Tokens       TokenSource
	Limiter      Limiter
	Timeout      time.Duration
	MinorVersion int
	Now          func() time.Time
	Observe      func(Call)
}

type Call struct {
	Realm    string
	Kind     string
	Entity   string
	Priority Priority
	Status   int
	Took     time.Duration
	Err      error
}

type Client struct{ o Options }

func New(o Options) (*Client, error)                                 { return &Client{o: o}, nil }
func (c *Client) With(p Priority) *Client                            { return c }
func Quote(s string) string                                          { return s }
func FormatTime(t time.Time) string                                  { return t.UTC().Format(time.RFC3339) }
func DecodeCDC(body []byte) (CDCResult, error)                       { return CDCResult{}, nil }
func DecodeQuery(body []byte) (QueryResult, error)                   { return QueryResult{}, nil }
func Temporary(err error) bool                                       { return false }
func (r CDCResult) Truncated() bool                                  { return false }
func (r CDCResult) Complete(asked []string) bool                     { return false }
func DecodeFault(status int, header http.Header, body []byte) *Fault { return &Fault{Status: status} }

func (c *Client) CDC(ctx context.Context, realm string, entities []string, since time.Time) (CDCResult, error) {
	return CDCResult{}, nil
}
func (c *Client) Query(ctx context.Context, realm, statement string) (QueryResult, error) {
	return QueryResult{}, nil
}
func (c *Client) Read(ctx context.Context, realm, name, id string) (Entity, time.Time, error) {
	return Entity{}, time.Time{}, nil
}

type CDCResult struct {
	Time     time.Time
	Entities map[string][]Entity
	Blocks   int
	Total    int
	NoID     []Entity
}

type QueryResult struct {
	Time          time.Time
	Entities      []Entity
	StartPosition int
	MaxResults    int
	TotalCount    int
	NoID          []Entity
}

type Fault struct {
	Status     int
	Type       string
	Errors     []FaultError
	TID        string
	RetryAfter time.Duration
}

type FaultError struct{ Message, Detail, Code, Element string }

func (f *Fault) Error() string        { return "fault" }
func (f *Fault) Is(target error) bool { return false }

type OAuthOptions struct {
	ClientID     string
	ClientSecret secret.String
	AuthorizeURL string
	TokenURL     string
	RevokeURL    string
	RedirectURL  string
	HTTP         *http.Client
	Timeout      time.Duration
	Now          func() time.Time
}

type OAuth struct{ o OAuthOptions }

func NewOAuth(o OAuthOptions) (*OAuth, error)                             { return &OAuth{o: o}, nil }
func (o *OAuth) AuthorizeURL(state string) string                         { return "" }
func (o *OAuth) Exchange(ctx context.Context, code string) (Token, error) { return Token{}, nil }
func (o *OAuth) Refresh(ctx context.Context, refresh secret.String) (Token, error) {
	return Token{}, nil
}
func (o *OAuth) Revoke(ctx context.Context, token secret.String) error { return nil }

type Token struct {
	Access             secret.String
	Refresh            secret.String
	AccessExpires      time.Time
	RefreshExpires     time.Time
	RefreshHardExpires time.Time
}
