package qbo_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return body
}

func utc(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return at.UTC()
}

// tokens hands out its list in order; a rejected token is not given again.
type tokens struct {
	mu       sync.Mutex
	list     []secret.String
	rejected []secret.String
	err      error // what Token answers when the list is empty
	errIn    error // what Rejected answers
}

func (s *tokens) Token(context.Context, string) (secret.String, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return "", s.err
	}
	return s.list[0], nil
}

func (s *tokens) Rejected(_ context.Context, _ string, token secret.String) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected = append(s.rejected, token)
	s.list = slices.DeleteFunc(s.list, func(t secret.String) bool { return t == token })
	return s.errIn
}

// limiter records what the client asks of it.
type limiter struct {
	mu        sync.Mutex
	asked     []qbo.Priority
	held      int
	heldFor   time.Duration // the last one that was released
	released  int
	penalties []time.Duration
	early     bool // a turn was given back before the penalty
	err       error
	penalty   error
}

func (l *limiter) Acquire(_ context.Context, _ string, p qbo.Priority) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	l.asked = append(l.asked, p)
	l.held++
	granted := time.Now()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held--
		l.heldFor = time.Since(granted)
		l.released++
	}, nil
}

func (l *limiter) holds() (now int, last time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held, l.heldFor
}

func (l *limiter) Penalize(ctx context.Context, _ string, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.penalties = append(l.penalties, d)
	l.early = l.early || l.held == 0
	return errors.Join(l.penalty, ctx.Err())
}

// bundle is a client and the server it talks to.
type bundle struct {
	client  *qbo.Client
	server  *httptest.Server
	tokens  *tokens
	limiter *limiter
	calls   []qbo.Call
}

func setup(t *testing.T, handler http.HandlerFunc, change ...func(*qbo.Options)) *bundle {
	t.Helper()
	b := &bundle{tokens: &tokens{list: []secret.String{"access-1", "access-2"}}, limiter: &limiter{}}
	b.server = httptest.NewServer(handler)
	t.Cleanup(b.server.Close)
	o := qbo.Options{
		BaseURL: b.server.URL, Tokens: b.tokens, Limiter: b.limiter,
		Observe: func(c qbo.Call) { b.calls = append(b.calls, c) },
	}
	for _, f := range change {
		f(&o)
	}
	client, err := qbo.New(o)
	require.NoError(t, err)
	b.client = client
	return b
}

// answer replies with the same status, content type and body each time.
func answer(status int, contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("intuit_tid", "1-tid")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}
