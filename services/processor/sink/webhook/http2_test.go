package webhook_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// received are the requests that a receiver has answered, by webhook-id.
type received struct {
	mu  sync.Mutex // guards ids
	ids map[string]int
}

func (r *received) took(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = map[string]int{}
	}
	r.ids[id]++
}

func (r *received) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

// http2Server starts a server with TLS that speaks HTTP/2, and returns it with the file of
// its authority.
func http2Server(t *testing.T, h http.HandlerFunc) (e *httptest.Server, caFile string) {
	t.Helper()
	e = httptest.NewUnstartedServer(h)
	e.EnableHTTP2 = true
	e.StartTLS()
	t.Cleanup(e.Close)
	caFile = filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}), 0o600))
	return e, caFile
}

func openURL(t *testing.T, o webhook.Options) *webhook.Sink {
	t.Helper()
	o.Secrets, o.Allow = []secret.String{newSecret}, loopback
	s, err := webhook.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// A receiver that speaks HTTP/2 ends a connection with GOAWAY: after so many requests, before
// a restart, or because of its load. No write fails for it, whatever was under way.
func TestWrite_AnHTTP2ReceiverThatGoesAway(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *received) (url, caFile string, ended func() int64){
		"after some requests":              goesAwayAfterSome,
		"before a restart":                 restarts,
		"and leaves out the newest":        rawServer(func(open uint32) (last uint32, say bool) { return open - 6, true }),
		"and does not say what it has got": rawServer(func(uint32) (last uint32, say bool) { return 1<<31 - 1, true }),
		"without GOAWAY":                   rawServer(func(uint32) (last uint32, say bool) { return 0, false }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got received
			url, caFile, ended := start(t, &got)
			s := openURL(t, webhook.Options{URL: url, CAFile: caFile})
			for n := range 10 {
				var all []*ledgerfeedv1.Change
				for i := range 60 {
					all = append(all, sinktest.Change(fmt.Sprint(i), int64(n), `{}`))
				}
				require.NoError(t, s.Write(t.Context(), all))
			}
			require.Equal(t, 600, got.count())
			require.Greater(t, ended(), int64(3), "connections ended under load")
		})
	}
}

func goesAwayAfterSome(t *testing.T, got *received) (url, caFile string, ended func() int64) {
	var n, closed atomic.Int64
	e, caFile := http2Server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1)%25 == 0 {
			w.Header().Set("Connection", "close") // GOAWAY in HTTP/2
			closed.Add(1)
		}
		got.took(r.Header.Get("webhook-id"))
		w.WriteHeader(http.StatusNoContent)
	})
	return e.URL, caFile, closed.Load
}

// restarts replaces the server behind the address each 80 requests; the one before ends
// gracefully.
func restarts(t *testing.T, got *received) (url, caFile string, ended func() int64) {
	var n, generations atomic.Int64
	var serve func() *http.Server
	e, caFile := http2Server(t, nil) // for its certificate
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conns := make(chan net.Conn)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- conn
		}
	}()
	var mu sync.Mutex
	var current *http.Server
	var running sync.WaitGroup
	replace := func() {
		mu.Lock()
		defer mu.Unlock()
		old := current
		current = serve()
		generations.Add(1)
		if old != nil {
			running.Go(func() { _ = old.Shutdown(t.Context()) })
		}
	}
	serve = func() *http.Server {
		server := &http.Server{TLSConfig: e.TLS.Clone(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if n.Add(1)%80 == 0 {
				running.Go(replace)
			}
			got.took(r.Header.Get("webhook-id"))
			w.WriteHeader(http.StatusNoContent)
		})}
		running.Go(func() { _ = server.ServeTLS(&shared{Listener: l, conns: conns, closed: make(chan struct{})}, "", "") })
		return server
	}
	replace()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		_ = current.Close()
	})
	return "https://" + l.Addr().String(), caFile, generations.Load
}

// shared is a listener that may be closed while others accept from the same address.
type shared struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (s *shared) Accept() (net.Conn, error) {
	select {
	case conn, ok := <-s.conns:
		if ok {
			return conn, nil
		}
	case <-s.closed:
	}
	return nil, net.ErrClosed
}

func (s *shared) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// rawServer answers 50 requests of a connection, and then ends it with up to four of them
// unanswered: a write that comes to its end sends no more. goAway says what the last frame is, given the newest stream.
func rawServer(goAway func(newest uint32) (last uint32, say bool)) func(*testing.T, *received) (string, string, func() int64) {
	return func(t *testing.T, got *received) (url, caFile string, ended func() int64) {
		e, caFile := http2Server(t, nil)
		config := e.TLS.Clone()
		config.NextProtos = []string{http2.NextProtoTLS}
		l, err := tls.Listen("tcp", "127.0.0.1:0", config)
		require.NoError(t, err)
		var closed atomic.Int64
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					defer conn.Close()
					if err := answerSome(conn, got, goAway); err == nil {
						closed.Add(1)
					}
				})
			}
		})
		t.Cleanup(func() { l.Close(); serving.Wait() })
		return "https://" + l.Addr().String(), caFile, closed.Load
	}
}

// answerSome returns nil after the last frame of a connection, which it does not close.
func answerSome(conn net.Conn, got *received, goAway func(uint32) (uint32, bool)) error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return err
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		return err
	}
	var encoded bytes.Buffer
	encoder := hpack.NewEncoder(&encoded)
	ids := map[uint32]string{}
	answered, waiting := 0, 0
	var newest uint32
	end := func() error {
		if last, say := goAway(newest); say {
			return f.WriteGoAway(last, http2.ErrCodeNo, nil)
		}
		return nil
	}
	for {
		frame, err := f.ReadFrame()
		if waiting > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			return end()
		}
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			for _, field := range frame.RegularFields() {
				if field.Name == "webhook-id" {
					ids[frame.StreamID] = field.Value
				}
			}
		case *http2.DataFrame:
			if !frame.StreamEnded() {
				continue
			}
			if answered == 50 {
				newest = frame.StreamID
				if waiting++; waiting < 4 {
					if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
						return err
					}
					continue
				}
				return end()
			}
			answered++
			got.took(ids[frame.StreamID])
			encoded.Reset()
			if err = encoder.WriteField(hpack.HeaderField{Name: ":status", Value: "204"}); err == nil {
				err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: encoded.Bytes(), EndStream: true, EndHeaders: true})
			}
		}
		if err != nil {
			return err
		}
	}
}

// A connection on which nothing comes back any more, as after a firewall has forgotten it, is
// left: the next writes go through another one.
func TestWrite_LeavesAnHTTP2ConnectionThatIsDead(t *testing.T) {
	t.Parallel()
	var got received
	e, caFile := http2Server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got.took(r.Header.Get("webhook-id"))
	})
	proxy := devtest.NewProxy(t, e.Listener.Addr().String())
	s := openURL(t, webhook.Options{URL: "https://" + proxy.Addr(), CAFile: caFile, Timeout: time.Second})
	put := func(n int) error {
		return s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change(fmt.Sprint(n), 1, `{}`)})
	}
	require.NoError(t, put(0))
	proxy.HalfOpen()
	require.Error(t, put(1))
	n := 1
	require.Eventually(t, func() bool { n++; return put(n) == nil }, 30*time.Second, time.Millisecond, "another connection is used")
}

func TestWrite_SpeaksHTTP2(t *testing.T) {
	var said atomic.Value
	e, caFile := http2Server(t, func(_ http.ResponseWriter, r *http.Request) { said.Store(r.Proto) })
	require.NoError(t, openURL(t, webhook.Options{URL: e.URL, CAFile: caFile}).Write(t.Context(), changes(1)))
	require.Equal(t, "HTTP/2.0", said.Load())
}
