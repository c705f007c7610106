package devtest

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATS starts a NATS server with JetStream in this process, its streams in a
// directory of the test, and returns its URL. With NATS_URL set that server is
// used instead, and Ledgerfeed's streams on it deleted: never point it at a
// server whose data matter, and run one package at a time (go test -p 1).
func NATS(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("NATS_URL"); url != "" {
		deleteStreams(t, url)
		t.Log("devtest: NATS at NATS_URL, streams deleted")
		return url
	}
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(n.Close)
	t.Logf("devtest: NATS in process at %s", n.URL())
	return n.URL()
}

// CompressStream compresses a stream with S2, as earlier versions of Ledgerfeed created
// theirs.
func CompressStream(t testing.TB, url, name string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("devtest: connect to NATS: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err == nil {
		cfg := s.CachedInfo().Config
		cfg.Compression = jetstream.S2Compression
		_, err = js.UpdateStream(ctx, cfg)
	}
	if err != nil {
		t.Fatalf("devtest: compress stream %s: %v", name, err)
	}
}

// EditConsumer sets max_deliver of a consumer, as somebody does by hand.
func EditConsumer(t testing.TB, url, stream, durable string, maxDeliver int) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("devtest: connect to NATS: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := js.Consumer(ctx, stream, durable)
	if err == nil {
		cfg := c.CachedInfo().Config
		cfg.MaxDeliver = maxDeliver
		_, err = js.UpdateConsumer(ctx, stream, cfg)
	}
	if err != nil {
		t.Fatalf("devtest: edit consumer %s: %v", durable, err)
	}
}

func deleteStreams(t testing.TB, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("devtest: connect to NATS_URL: %v", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, name := range []string{"LF_EVENTS", "LF_RETRY", "LF_DEAD", "LF_CHANGES", "LF_GAPS", "LF_ACTIONS"} {
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatalf("devtest: delete stream %s at NATS_URL: %v", name, err)
		}
	}
}
