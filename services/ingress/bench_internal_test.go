package ingress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// encoding does all that the stream does before the network.
type encoding struct{}

func (encoding) Publish(_ context.Context, envs ...*ledgerfeedv1.Envelope) error {
	for _, e := range envs {
		if _, err := envelope.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func (encoding) PublishDead(context.Context, stream.DeadLetter) error { return nil }

// typical is a body of n events over two realms, and its signed request.
func typical(n int) (body []byte, request func() *http.Request) {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `%c{"specversion":"1.0","id":"88cd52aa-33b6-4351-9aa4-47572edb%04d","source":"intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",`+
			`"datacontenttype":"application/json","time":"2026-11-23T10:20:29.179851517Z","type":"qbo.invoice.updated.v1",`+
			`"intuitentityid":"%d","intuitaccountid":"934145300000000%d","data":{}}`, "[,"[min(i, 1)], i, 1000+i, i%2)
	}
	b.WriteByte(']')
	body = b.Bytes()
	signature := webhook.Sign(body, "b5771f19b12ddb4bcdb9f08bdc50bc63878a")
	return body, func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/demo", bytes.NewReader(body))
		r.Header.Set("Intuit-Signature", signature)
		r.Header.Set("Intuit-T-Id", "1-674a8b1c-2f0d4e5a6b7c8d9e0f1a2b3c")
		return r
	}
}

// discard is a response without a connection.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header             { return d.header }
func (d *discard) Write(b []byte) (int, error)     { return len(b), nil }
func (d *discard) WriteHeader(status int)          { d.status = status }
func (d *discard) SetReadDeadline(time.Time) error { return nil }

func newBenchServer(t testing.TB) *Server {
	t.Helper()
	c := DefaultIngressConfig()
	c.Listen, c.Apps = "127.0.0.1:0", "demo=b5771f19b12ddb4bcdb9f08bdc50bc63878a"
	s, err := New(Options{Config: c, Publisher: encoding{}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// One request from its headers to its 200, without the network and the broker.
func BenchmarkServer_Receive(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			s := newBenchServer(b)
			body, request := typical(n)
			r := request()
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r.Body = io.NopCloser(bytes.NewReader(body))
				w := &discard{header: http.Header{}}
				s.http.Handler.ServeHTTP(w, r)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}
