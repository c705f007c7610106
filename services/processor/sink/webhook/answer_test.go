package webhook_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// An endpoint that is slow after its headers holds nobody up: what it means is known. One
// that is slow before them costs the write timeout, and no more.
func TestWrite_ASlowAnswerHoldsUpNothing(t *testing.T) {
	forever := func(w http.ResponseWriter, r *http.Request, piece string) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	headers := func(w http.ResponseWriter, status int) {
		w.WriteHeader(status)
		_ = http.NewResponseController(w).Flush()
	}
	for name, row := range map[string]struct {
		serve   http.HandlerFunc
		timeout time.Duration
		want    string
		within  time.Duration
	}{
		"no headers": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, time.Second, "timeout", 10 * time.Second},
		"a body that does not begin": {
			func(w http.ResponseWriter, r *http.Request) { headers(w, http.StatusOK); <-r.Context().Done() }, time.Minute, "", 20 * time.Second,
		},
		"a body that does not end": {
			func(w http.ResponseWriter, r *http.Request) { headers(w, http.StatusOK); forever(w, r, ".") }, time.Minute, "", 20 * time.Second,
		},
		"a body of gigabytes": {
			func(w http.ResponseWriter, r *http.Request) {
				headers(w, http.StatusOK)
				forever(w, r, strings.Repeat(".", 1<<20))
			}, time.Minute, "", 20 * time.Second,
		},
		"an error whose body does not end": {
			func(w http.ResponseWriter, r *http.Request) {
				headers(w, http.StatusInternalServerError)
				forever(w, r, ".")
			}, time.Minute, "HTTP 500", 20 * time.Second,
		},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				serve := func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					row.serve(w, r)
				}
				o := webhook.Options{Timeout: row.timeout, Concurrency: 1}
				if protocol == "HTTP/2" {
					e, caFile := http2Server(t, serve)
					o.URL, o.CAFile = e.URL, caFile
				} else {
					e := httptest.NewServer(http.HandlerFunc(serve))
					t.Cleanup(e.Close)
					o.URL = e.URL
				}
				s := openURL(t, o)
				began := time.Now()
				err := s.Write(t.Context(), changes(3))
				require.Less(t, time.Since(began), row.within, "three requests, one at a time")
				if row.want == "" {
					require.NoError(t, err)
					return
				}
				require.Equal(t, row.want, sink.ReasonOf(firstOf(err)))
				_, permanent := stream.AsPermanent(err)
				require.False(t, permanent)
			})
		}
	}
}

func firstOf(err error) error {
	if partial, ok := errors.AsType[*sink.PartialError](err); ok {
		return partial.Errs[0]
	}
	return err
}

// What an endpoint writes into its answer counts for nothing, in whatever encoding it is.
func TestWrite_TheEncodingOfAnAnswerCountsForNothing(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(bytes.Repeat([]byte(`{"ok":true}`), 1000))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for name, row := range map[string]struct {
		encoding string
		body     []byte
		length   string
	}{
		"gzip":                      {"gzip", zipped.Bytes(), ""},
		"not gzip after all":        {"gzip", []byte("plainly not"), ""},
		"gzip that is cut off":      {"gzip", zipped.Bytes()[:20], ""},
		"an encoding nobody knows":  {"snappy2", []byte{0, 1, 2, 255}, ""},
		"gzip without saying so":    {"", zipped.Bytes(), ""},
		"less than it has promised": {"", []byte("short"), "1000"},
	} {
		t.Run(name, func(t *testing.T) {
			var status atomic.Int64
			e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if row.encoding != "" {
					w.Header().Set("Content-Encoding", row.encoding)
				}
				if row.length != "" {
					w.Header().Set("Content-Length", row.length)
				}
				w.WriteHeader(int(status.Load()))
				_, _ = w.Write(row.body)
			}))
			defer e.Close()
			s := openURL(t, webhook.Options{URL: e.URL})
			status.Store(http.StatusOK)
			require.NoError(t, s.Write(t.Context(), changes(3)))
			status.Store(http.StatusUnprocessableEntity)
			_, permanent := stream.AsPermanent(s.Write(t.Context(), changes(1)))
			require.True(t, permanent)
			status.Store(http.StatusServiceUnavailable)
			err := s.Write(t.Context(), changes(1))
			require.Equal(t, "HTTP 503", sink.ReasonOf(err))
		})
	}
}

// large is a change whose request does not fit into the buffers of a connection.
func large() []*ledgerfeedv1.Change {
	return []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{"PrivateNote":"`+strings.Repeat("x", 8<<20)+`"}`)}
}

// An endpoint may answer from the headers alone.
func TestWrite_AnAnswerBeforeTheBodyWasRead(t *testing.T) {
	for name, row := range map[string]struct{ answer, want string }{
		"too large":    {"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP 413"},
		"unauthorised": {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "HTTP 401"},
		"taken":        {"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := tcpServer(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReaderSize(conn, 16)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, row.answer)
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn) // as servers do, so that the answer is not lost
			})
			err := openURL(t, webhook.Options{URL: url}).Write(t.Context(), large())
			if row.want == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, row.want, sink.ReasonOf(err))
			_, permanent := stream.AsPermanent(err)
			require.Equal(t, row.want == "HTTP 413", permanent)
		})
	}
}

// A connection that is reset once an endpoint has read all costs no failure, for it may be
// the last word of a server that restarts. If it happens again it is one.
func TestWrite_AConnectionThatIsResetAfterTheBody(t *testing.T) {
	for name, row := range map[string]struct {
		resets int64
		fails  bool
	}{"once": {1, false}, "always": {1 << 30, true}} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			url := tcpServer(t, func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if n.Add(1) <= row.resets {
					_ = conn.(*net.TCPConn).SetLinger(0)
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			})
			err := openURL(t, webhook.Options{URL: url}).Write(t.Context(), changes(1))
			require.Equal(t, int64(2), n.Load(), "requests")
			if !row.fails {
				require.NoError(t, err)
				return
			}
			require.Equal(t, "network", sink.ReasonOf(err))
			require.ErrorContains(t, err, "reset")
			_, permanent := stream.AsPermanent(err)
			require.False(t, permanent)
		})
	}
}

// tcpServer has each connection served, and closed then.
func tcpServer(t *testing.T, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return "http://" + l.Addr().String()
}

// A redirect is not followed; the error says where it leads, without what may be secret.
func TestWrite_ARedirectNamesItsTarget(t *testing.T) {
	for location, want := range map[string]string{
		"https://crm.example.com/hooks/":          "to https://crm.example.com/hooks/, which",
		"/elsewhere?token=hunter2":                "/elsewhere, which",
		"https://me:hunter2@crm.example.com/?x=1": "to https://crm.example.com/, which",
		"": "answered 301 Moved Permanently",
	} {
		t.Run(location, func(t *testing.T) {
			e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(http.StatusMovedPermanently)
			}))
			defer e.Close()
			err := openURL(t, webhook.Options{URL: e.URL}).Write(t.Context(), changes(1))
			require.ErrorContains(t, err, want)
			require.NotContains(t, fmt.Sprint(err), "hunter2")
			require.Equal(t, "HTTP 301", sink.ReasonOf(err))
			_, permanent := stream.AsPermanent(err)
			require.False(t, permanent)
		})
	}
}
