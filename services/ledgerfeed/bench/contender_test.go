package bench_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillhttp "github.com/ThreeDotsLabs/watermill-http/v2/pkg/http"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

const (
	app           = "bench"
	path          = "/webhooks/" + app
	verifierToken = "bench-verifier-token"
	eventStream   = stream.EventStream
	peerStream    = "PEER" // Watermill's
	peerTopic     = "peer.events"
)

// runChild is what a re-executed test binary does.
func runChild(name string) error {
	switch name {
	case "broker":
		return runBroker()
	case "ledgerfeed":
		return runLedgerfeed()
	case "bare":
		return runBare()
	case "empty":
		return runEmpty()
	case "watermill":
		return runWatermill(whole)
	case "watermill-split":
		return runWatermill(byRealm)
	case "river":
		return runRiver()
	case "quickbooks":
		return runQuickBooks()
	case "bare-processor":
		return runBareProcessor()
	case "river-processor":
		return runRiverProcessor()
	}
	return fmt.Errorf("no such child: %s", name)
}

// runBroker is a nats-server whose store goes with it, also when the
// measurement is killed.
func runBroker() error {
	dir := os.Getenv("BENCH_DIR")
	n, err := devserver.StartNATS(devserver.NATSOptions{Dir: dir, SyncAlways: os.Getenv("BENCH_SYNC") == "always", Monitor: true})
	if err != nil {
		return err
	}
	serving(n.URL(), n.MonitorURL())
	untilParentEnds()
	n.Close()
	return os.RemoveAll(dir)
}

// runLedgerfeed keeps the real program, as an operator starts it, from outliving
// the measurement. Its environment is the program's.
func runLedgerfeed() error {
	log, err := os.CreateTemp("", "ledgerfeed-bench-*.log")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), os.Getenv("BENCH_BINARY"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	listen, admin := os.Getenv("LEDGERFEED_INGRESS_LISTEN"), os.Getenv("LEDGERFEED_ADMIN_LISTEN")
	for tick := time.NewTicker(20 * time.Millisecond); !ready(admin); {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the service ended before it was ready: %w\n%s", err, text)
		case <-tick.C:
		}
	}
	fmt.Println(cmd.Process.Pid, listen, admin)
	untilParentEnds()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	return nil
}

func ready(admin string) bool {
	resp, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// signed is the check that every contender makes.
func signed(body []byte, signature string) bool {
	given, err := base64.StdEncoding.DecodeString(signature)
	m := hmac.New(sha256.New, []byte(verifierToken))
	m.Write(body)
	return err == nil && hmac.Equal(given, m.Sum(nil))
}

// listen prints where the child listens and serves until the parent ends.
func listen(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(path, h)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }()
	serving(l.Addr().String())
	untilParentEnds()
	return s.Close()
}

// runBare is the least that an honest 200 takes: the check of the signature and
// one publish for each message the ingress makes, of the same size, awaited. It
// parses nothing.
func runBare() error {
	nc, err := nats.Connect(os.Getenv("BENCH_NATS"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(100_000))
	if err != nil {
		return err
	}
	shape, err := shapeOf()
	if err != nil {
		return err
	}
	var number atomic.Uint64
	run := time.Now().UnixNano()
	return listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !signed(body, r.Header.Get("intuit-signature")) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		n := number.Add(1)
		pending := make([]jetstream.PubAckFuture, 0, len(shape))
		for i, s := range shape {
			m := nats.NewMsg(s.subject)
			m.Data = s.data
			m.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%016x%015x%d", run, n, i))
			m.Header.Set(jetstream.ExpectedStreamHeader, eventStream)
			f, err := js.PublishMsgAsync(m)
			if err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			pending = append(pending, f)
		}
		for _, f := range pending {
			select {
			case <-f.Ok():
			case <-f.Err():
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			case <-r.Context().Done():
				return
			}
		}
	}))
}

// runEmpty reads a body, keeps nothing of it and answers when the broker's answer
// would be long overdue.
func runEmpty() error {
	return listen(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(2900 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
}

type shape struct {
	subject string
	data    []byte
}

// shapeOf is what the ingress publishes for a request of this load.
func shapeOf() ([]shape, error) {
	body := []byte(os.Getenv("BENCH_SAMPLE"))
	n, err := webhook.Parse(body)
	if err != nil {
		return nil, err
	}
	var shapes []shape
	for _, e := range envelope.FromNotification(body, n, envelope.Meta{App: app, ReceivedAt: time.Now()}) {
		data, err := envelope.Encode(e)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, shape{fmt.Sprintf("lf.event.%02d.%s", envelope.Partition(e.RealmId), envelope.RealmToken(e.RealmId)), data})
	}
	return shapes, nil
}

// whole is the cheapest a handler of Watermill's can do.
func whole(m *message.Message) ([]*message.Message, error) { return []*message.Message{m}, nil }

// byRealm makes a message of the events of each realm, as every contender must
// whose consumers keep a company's changes in order.
func byRealm(m *message.Message) (out []*message.Message, err error) {
	var events []json.RawMessage
	if err := json.Unmarshal(m.Payload, &events); err != nil {
		return nil, err
	}
	of := map[string][]json.RawMessage{}
	for _, raw := range events {
		var e struct {
			Realm string `json:"intuitaccountid"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		of[e.Realm] = append(of[e.Realm], raw)
	}
	for realm, events := range of {
		payload, err := json.Marshal(events)
		if err != nil {
			return nil, err
		}
		out = append(out, message.NewMessage(m.UUID+"."+realm, payload))
	}
	return out, nil
}

// runWatermill is Watermill's own HTTP subscriber and JetStream publisher, joined
// by its router.
func runWatermill(handle message.HandlerFunc) error {
	logger := watermill.NopLogger{}
	in, err := watermillhttp.NewSubscriber("127.0.0.1:0", watermillhttp.SubscriberConfig{
		UnmarshalMessageFunc: func(_ string, r *http.Request) (*message.Message, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			if !signed(body, r.Header.Get("intuit-signature")) {
				return nil, errors.New("bad signature")
			}
			return message.NewMessage(watermill.NewUUID(), body), nil
		},
	}, logger)
	if err != nil {
		return err
	}
	out, err := watermillnats.NewPublisher(watermillnats.PublisherConfig{
		URL:       os.Getenv("BENCH_NATS"),
		JetStream: watermillnats.JetStreamConfig{TrackMsgId: true},
	}, logger)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddHandler("webhooks", path, in, peerTopic, out, handle)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _ = router.Run(ctx) }()
	<-router.Running()
	go func() { _ = in.StartHTTPServer() }()
	for in.Addr() == nil {
		time.Sleep(time.Millisecond)
	}
	serving(in.Addr().String())
	untilParentEnds()
	return nil
}

// webhookJob is a job of River: the raw body of a request.
type webhookJob struct {
	Body []byte `json:"body"`
}

func (webhookJob) Kind() string { return "webhook" }

// riverPool is what River works on.
func riverPool(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(os.Getenv("BENCH_POSTGRES"))
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 32
	return pgxpool.NewWithConfig(ctx, cfg)
}

// runRiver inserts a job a request into PostgreSQL in a transaction.
func runRiver() error {
	ctx := context.Background()
	pool, err := riverPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		return err
	}
	return listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !signed(body, r.Header.Get("intuit-signature")) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		err = pgx.BeginFunc(r.Context(), pool, func(tx pgx.Tx) error {
			_, err := client.InsertTx(r.Context(), tx, webhookJob{Body: body}, nil)
			return err
		})
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
}
