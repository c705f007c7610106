package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// counting takes everything the broker would, and counts.
type counting struct {
	calls  atomic.Int64
	broken atomic.Bool
}

var errBroken = errors.New("broken")

func (c *counting) Publish(_ context.Context, envs ...*ledgerfeedv1.Envelope) error {
	c.calls.Add(1)
	for _, env := range envs {
		if _, err := envelope.Encode(env); err != nil {
			return err
		}
	}
	return c.end()
}

func (c *counting) PublishDead(_ context.Context, l stream.DeadLetter) error {
	c.calls.Add(1)
	if len(l.Body) > 1<<20 {
		return stream.ErrTooLarge
	}
	return c.end()
}

func (c *counting) end() error {
	if c.broken.Load() {
		return errBroken
	}
	return nil
}

// I10: a validly signed body is answered 200 or, without the broker, 503; one
// that is not, 401, and nothing of it is published.
func FuzzHandler(f *testing.F) {
	samples, err := filepath.Glob("../../pkg/qbo/webhook/testdata/*.json")
	if err != nil || len(samples) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, file := range samples {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, "bogus", false)
	}
	f.Add([]byte("[]"), "", true)
	f.Add([]byte(`[{"id":"\u0000","type":"qbo.a.b.v1","intuitentityid":1e400,"intuitaccountid":"*.>"}]`), "JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q=", true)
	f.Add([]byte("\xff\xfe{"), " ", false)

	publisher := &counting{}
	config := ingress.DefaultIngressConfig()
	config.Listen, config.Apps = "127.0.0.1:0", apps
	server, err := ingress.New(ingress.Options{Config: config, Publisher: publisher})
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	f.Cleanup(func() {
		client.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, body []byte, signature string, broken bool) {
		publisher.broken.Store(broken)
		post := func(signature string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr()+"/webhooks/demo", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(webhook.SignatureHeader, strings.Map(printable, signature))
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		before := publisher.calls.Load()
		if _, err := webhook.Verify(body, strings.Map(printable, signature), []secret.String{oldToken, newToken}); err != nil {
			if got := post(signature); got != http.StatusUnauthorized {
				t.Fatalf("unsigned: %d", got)
			}
		}
		if publisher.calls.Load() != before {
			t.Fatal("something unsigned was published")
		}
		switch got := post(webhook.Sign(body, newToken)); {
		case got == http.StatusOK && (!broken || publisher.calls.Load() == before):
		case got == http.StatusServiceUnavailable && broken:
		default:
			t.Fatalf("signed: %d, broker broken: %t", got, broken)
		}
	})
}

// printable keeps what an HTTP client sends in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}
