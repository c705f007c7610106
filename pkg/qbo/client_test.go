package qbo_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const okQuery = `{"QueryResponse":{"Item":[{"Id":"1"}]},"time":"2026-01-01T00:00:00Z"}`

func query(t *testing.T, b *bundle) error {
	t.Helper()
	_, err := b.client.Query(t.Context(), "9130", "SELECT * FROM Item")
	return err
}

// byToken answers 401 to the named tokens and okQuery to others.
func byToken(t *testing.T, seen *[]string, refused ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		*seen = append(*seen, token)
		for _, bad := range refused {
			if token == bad {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = w.Write([]byte(strings.ReplaceAll(string(read(t, "errors/lowercase_fault_3200_go_captured.json")), "AB01730024136mqEofYN9fldzIcxH6lsAcqOYIbafE5z6ZdjPc", token)))
				return
			}
		}
		_, _ = w.Write([]byte(okQuery))
	}
}

func TestClient_RefusedTokenIsReportedAndTheNextOneTried(t *testing.T) {
	var seen []string
	b := setup(t, byToken(t, &seen, "access-1"))
	require.NoError(t, query(t, b))
	require.Equal(t, []string{"access-1", "access-1", "access-2"}, seen, "it is asked whether the token or the call is refused")
	require.Equal(t, []secret.String{"access-1"}, b.tokens.rejected)
	require.Equal(t, 3, b.limiter.released, "each request takes its own turn")
	require.Zero(t, b.limiter.held)
	require.Len(t, b.calls, 3)
	require.Equal(t, http.StatusUnauthorized, b.calls[0].Status)
	require.ErrorIs(t, b.calls[0].Err, qbo.ErrUnauthorized)
	require.NoError(t, b.calls[2].Err)
}

func TestClient_SecondRefusalIsFinal(t *testing.T) {
	var seen []string
	b := setup(t, byToken(t, &seen, "access-1", "access-2"))
	err := query(t, b)
	require.ErrorIs(t, err, qbo.ErrUnauthorized)
	require.False(t, qbo.Temporary(err))
	require.Equal(t, []string{"access-1", "access-1", "access-2", "access-2"}, seen)
	require.Equal(t, []secret.String{"access-1", "access-2"}, b.tokens.rejected, "so that the source can wait")
	require.NotContains(t, err.Error(), "access-", "the fault repeats the token")
	require.Contains(t, err.Error(), "[REDACTED]")
	require.Empty(t, b.limiter.penalties)
}

// The API answers 401 to calls for one entity, and takes the token for others: no other
// token would help, and to report it would hold up all of the company.
func TestClient_A401ToOneEntityIsNotTheTokens(t *testing.T) {
	for _, row := range qbo.Responses() {
		if row.From != "" || row.Recorded.Status != http.StatusUnauthorized || row.Meaning == qbo.MeaningCompanyAccess {
			continue
		}
		refused := 0
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			if statement := r.URL.Query().Get("query"); statement != "" && !strings.Contains(statement, "Item") {
				_, _ = w.Write([]byte(`{"Fault":{"Error":[{"Message":"Error parsing query","Detail":"QueryParserError","code":"4000"}],"type":"ValidationFault"}}`))
				return
			}
			refused++
			answer(row.Recorded.Status, row.Recorded.ContentType, []byte(row.Recorded.Body))(w, r)
		})
		_, cdc := b.client.CDC(t.Context(), "9130", []string{"Item"}, time.Unix(1e9, 0))
		_, _, read := b.client.Read(t.Context(), "9130", "Item", "7")
		for _, err := range []error{query(t, b), cdc, read} {
			require.NotErrorIs(t, err, qbo.ErrUnauthorized)
			require.Equal(t, qbo.MeaningRequest, qbo.MeaningOf(err))
			require.False(t, qbo.Temporary(err))
			require.ErrorContains(t, err, "quickbooks answered 401")
		}
		require.Empty(t, b.tokens.rejected, row.Name)
		require.Equal(t, 3, refused)
	}
}

func TestClient_RefusalInsideAnAnswerOf200CountsToo(t *testing.T) {
	var calls atomic.Int32
	b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) <= 2 {
			_, _ = w.Write(read(t, "errors/lowercase_fault_3200_go_captured.json"))
			return
		}
		_, _ = w.Write([]byte(okQuery))
	})
	require.NoError(t, query(t, b))
	require.Equal(t, []secret.String{"access-1"}, b.tokens.rejected)
}

func TestClient_ErrorsOfTheTokenSourcePassThrough(t *testing.T) {
	parked := errors.New("reauthorisation required")
	t.Run("first token", func(t *testing.T) {
		b := setup(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was made") })
		b.tokens.list, b.tokens.err = nil, parked
		require.ErrorIs(t, query(t, b), parked)
		require.Empty(t, b.limiter.asked, "no turn is taken without a token")
	})
	t.Run("second token", func(t *testing.T) {
		var seen []string
		b := setup(t, byToken(t, &seen, "access-1"))
		b.tokens.list, b.tokens.err = b.tokens.list[:1], parked
		require.ErrorIs(t, query(t, b), parked)
		require.Len(t, seen, 2)
	})
	t.Run("report", func(t *testing.T) {
		var seen []string
		b := setup(t, byToken(t, &seen, "access-1"))
		b.tokens.errIn = parked
		err := query(t, b)
		require.ErrorIs(t, err, parked)
		require.ErrorIs(t, err, qbo.ErrUnauthorized)
		require.Len(t, seen, 2)
	})
}

func TestClient_ThrottlingIsReportedToTheLimiter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		header string
		body   []byte
		want   time.Duration
	}{
		{name: "429", status: 429, want: time.Minute},
		{name: "429 with Retry-After", status: 429, header: "17", want: 17 * time.Second},
		{name: "403 in XML", status: 403, body: read(t, "errors/quickbooks-ruby_throttle_exceeded_error.xml"), want: time.Minute},
		{name: "in an answer of 200", status: 200, header: "5", body: []byte(`{"Fault":{"Error":[{"code":"3001"}]}}`), want: 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Retry-After", tt.header)
				w.WriteHeader(tt.status)
				_, _ = w.Write(tt.body)
			})
			err := query(t, b)
			require.ErrorIs(t, err, qbo.ErrThrottled)
			require.True(t, qbo.Temporary(err))
			require.Equal(t, []time.Duration{tt.want}, b.limiter.penalties)
			require.EqualValues(t, 1, calls.Load(), "the client must not try again by itself")
			require.False(t, b.limiter.early, "another call would have its turn before the penalty")
			require.Zero(t, b.limiter.held)
		})
	}
}

func TestClient_PenaltyIsReportedEvenIfTheCallerHasGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := setup(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		func(o *qbo.Options) { o.Observe = func(qbo.Call) { cancel() } })
	_, err := b.client.Query(ctx, "1", "SELECT * FROM Item")
	require.ErrorIs(t, err, qbo.ErrThrottled)
	require.NotErrorIs(t, err, context.Canceled)
	require.Len(t, b.limiter.penalties, 1)
}

func TestClient_ErrorsOfTheLimiter(t *testing.T) {
	full := errors.New("redis is down")
	b := setup(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was made") })
	b.limiter.err = full
	require.ErrorIs(t, query(t, b), full)
	require.Empty(t, b.calls)

	b = setup(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) })
	b.limiter.penalty = full
	err := query(t, b)
	require.ErrorIs(t, err, full)
	require.ErrorIs(t, err, qbo.ErrThrottled)
}

func TestClient_PriorityReachesTheLimiter(t *testing.T) {
	b := setup(t, answer(200, "application/json", []byte(okQuery)))
	require.NoError(t, query(t, b))
	_, err := b.client.With(qbo.Backfill).Query(t.Context(), "1", "SELECT * FROM Item")
	require.NoError(t, err)
	require.NoError(t, query(t, b), "With must not change the client it came from")
	require.Equal(t, []qbo.Priority{qbo.Live, qbo.Backfill, qbo.Live}, b.limiter.asked)
	require.Equal(t, qbo.Backfill, b.calls[1].Priority)
}

func TestClient_WorksWithoutLimiterAndObserver(t *testing.T) {
	b := setup(t, answer(429, "text/plain", nil), func(o *qbo.Options) { o.Limiter, o.Observe = nil, nil })
	require.ErrorIs(t, query(t, b), qbo.ErrThrottled)
}

func TestClient_TurnIsHeldUntilTheAnswerIsRead(t *testing.T) {
	var b *bundle
	held := make(chan int, 1)
	b = setup(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(okQuery[:10]))
		w.(http.Flusher).Flush()
		b.limiter.mu.Lock()
		held <- b.limiter.held
		b.limiter.mu.Unlock()
		_, _ = w.Write([]byte(okQuery[10:]))
	})
	require.NoError(t, query(t, b))
	require.Equal(t, 1, <-held)
	require.Zero(t, b.limiter.held)
}

func TestClient_EachRequestHasADeadline(t *testing.T) {
	for _, part := range []string{"headers", "body"} {
		t.Run(part, func(t *testing.T) {
			gone := make(chan struct{})
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				if part == "body" {
					_, _ = w.Write([]byte(okQuery[:10]))
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				close(gone)
			}, func(o *qbo.Options) { o.Timeout = 20 * time.Millisecond })
			err := query(t, b)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.True(t, qbo.Temporary(err))
			<-gone
			require.Eventually(t, func() bool { now, _ := b.limiter.holds(); return now == 0 }, 10*time.Second, time.Millisecond)
			_, held := b.limiter.holds()
			require.GreaterOrEqual(t, held, 40*time.Millisecond, "the API may have been at it for as long again")
		})
	}
}

func TestClient_CancelledCallIsNotTemporary(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := setup(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := b.client.Query(ctx, "1", "SELECT * FROM Item")
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, qbo.Temporary(err))
}

func TestClient_NetworkErrorsAreTemporaryAndShort(t *testing.T) {
	b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	_, err := b.client.Query(t.Context(), "9130", "SELECT * FROM Item WHERE Id IN ('"+strings.Repeat("1", 2000)+"')")
	require.Error(t, err)
	require.True(t, qbo.Temporary(err))
	require.Less(t, len(err.Error()), 200, "the statement is not for the log")
	require.Contains(t, err.Error(), "query of realm 9130: ")

	b.server.Close()
	err = query(t, b)
	require.True(t, qbo.Temporary(err))
	require.Zero(t, b.calls[1].Status)

	b = setup(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(okQuery))
	})
	err = query(t, b)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.True(t, qbo.Temporary(err))
}

func TestClient_AnswerIsBounded(t *testing.T) {
	body := []byte(`{"QueryResponse":{"Item":[{"Id":"1","x":"` + strings.Repeat("y", 2000) + `"}]}}`)
	for _, compressed := range []bool{false, true} {
		for _, limit := range []int{len(body), len(body) - 1} {
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				if !compressed {
					_, _ = w.Write(body)
					return
				}
				require.Equal(t, "gzip", r.Header.Get("Accept-Encoding"))
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				_, _ = z.Write(body)
				_ = z.Close()
			}, func(o *qbo.Options) { o.MaxResponse = int64(limit) })
			err := query(t, b)
			if limit == len(body) {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, qbo.ErrTooLarge)
			require.ErrorContains(t, err, fmt.Sprintf("more than %d bytes", limit))
			require.False(t, qbo.Temporary(err), "the same call would be as large again")
		}
	}
}

func TestClient_OddAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{name: "HTML with 200", status: 200, body: "<html>maintenance</html>", want: qbo.ErrMalformed},
		{name: "nothing with 200", status: 200, want: qbo.ErrMalformed},
		{name: "HTML with 502", status: 502, body: "<html>bad gateway</html>", want: qbo.ErrServer},
		{name: "nothing with 503", status: 503, want: qbo.ErrServer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t, answer(tt.status, "text/html", []byte(tt.body)))
			err := query(t, b)
			require.ErrorIs(t, err, tt.want)
			require.True(t, qbo.Temporary(err))
			require.NotContains(t, err.Error(), "<html>")
			if tt.status != 200 {
				require.ErrorContains(t, err, "1-tid")
			}
		})
	}
}

func TestClient_FollowsNoRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the token was carried elsewhere") }))
	t.Cleanup(other.Close)
	for _, given := range []*http.Client{nil, {}} {
		b := setup(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
			func(o *qbo.Options) { o.HTTP = given })
		err := query(t, b)
		var f *qbo.Fault
		require.ErrorAs(t, err, &f)
		require.Equal(t, http.StatusFound, f.Status)
	}
}

func TestClient_TookIsMeasuredByTheClockGiven(t *testing.T) {
	now := time.Unix(0, 0)
	b := setup(t, answer(200, "application/json", []byte(okQuery)), func(o *qbo.Options) {
		o.Now = func() time.Time {
			now = now.Add(time.Second)
			return now
		}
	})
	require.NoError(t, query(t, b))
	require.Equal(t, time.Second, b.calls[0].Took)
}

func TestNew_RefusesBadOptions(t *testing.T) {
	good := qbo.Options{Tokens: &tokens{}}
	_, err := qbo.New(good)
	require.NoError(t, err)
	for name, change := range map[string]func(*qbo.Options){
		"Tokens":       func(o *qbo.Options) { o.Tokens = nil },
		"Timeout":      func(o *qbo.Options) { o.Timeout = 121 * time.Second },
		"MinorVersion": func(o *qbo.Options) { o.MinorVersion = -1 },
		"MaxResponse":  func(o *qbo.Options) { o.MaxResponse = -1 },
		"BaseURL":      func(o *qbo.Options) { o.BaseURL = "quickbooks.api.intuit.com" },
	} {
		o := good
		change(&o)
		_, err := qbo.New(o)
		require.ErrorContains(t, err, name)
	}
}
