package bench_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// runBareProcessor is the least that an honest consumer does, with the round
// trips of the processor and none of its logic: it pulls the same messages, takes
// what has come of a realm together, and for that asks Redis, asks the API,
// writes, marks and acks. It compares nothing, reads no answer and writes a
// document of the same size in its place.
func runBareProcessor() error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	b := &bareProcessor{
		api: os.Getenv("BENCH_API"), document: []byte(strings.ReplaceAll(os.Getenv("BENCH_SAMPLE"), mark, "1")),
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
		waiting: map[string][]jetstream.Msg{}, ready: make(chan string, 1<<16),
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	defer b.state.Close()
	defer b.sink.Close()
	nc, err := nats.Connect(os.Getenv("BENCH_NATS"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	config := processor.DefaultProcessorConfig()
	consumer, err := js.CreateOrUpdateConsumer(ctx, eventStream, jetstream.ConsumerConfig{
		Durable: "bare", FilterSubject: "lf.event.>", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: config.AckWait, MaxDeliver: -1, MaxAckPending: config.MaxAckPending,
	})
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	for range config.Parallel {
		working.Go(func() { b.work(ctx, config.BatchSize) })
	}
	consuming, err := consumer.Consume(b.take, jetstream.PullMaxMessagesWithBytesLimit(500, 8<<20))
	if err != nil {
		return err
	}
	serving()
	untilParentEnds()
	consuming.Stop()
	stop()
	working.Wait()
	return nil
}

type bareProcessor struct {
	state    *state.Store
	tokens   *connection.Store
	limiter  *state.Limiter
	sink     *postgres.Sink
	client   *http.Client
	api      string
	document []byte

	mu      sync.Mutex // guards waiting
	waiting map[string][]jetstream.Msg
	ready   chan string // subjects that something waits of
}

func (b *bareProcessor) open(ctx context.Context) (err error) {
	if b.state, err = state.Open(ctx, state.Options{Config: state.Config{URL: secret.String(os.Getenv("BENCH_REDIS"))}}); err != nil {
		return err
	}
	if b.tokens, err = openConnections(b.state); err != nil {
		return err
	}
	b.limiter = b.state.Limiter(state.DefaultLimits())
	b.sink, err = postgres.Open(ctx, postgres.Options{Name: sinkName, URL: secret.String(os.Getenv("BENCH_POSTGRES"))})
	return err
}

// take is called for each message.
func (b *bareProcessor) take(m jetstream.Msg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.waiting[m.Subject()]
	b.waiting[m.Subject()] = append(before, m)
	if len(before) == 0 {
		b.ready <- m.Subject()
	}
}

// batch are the messages that wait of a subject, as many as one Query can read.
func (b *bareProcessor) batch(subject string, most int) []jetstream.Msg {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.waiting[subject]
	n := min(len(all), max(1, most/perEnvelope))
	b.waiting[subject] = all[n:]
	if n == len(all) {
		delete(b.waiting, subject)
	} else {
		b.ready <- subject
	}
	return all[:n]
}

func (b *bareProcessor) work(ctx context.Context, most int) {
	for {
		select {
		case <-ctx.Done():
			return
		case subject := <-b.ready:
			if err := b.deliver(ctx, b.batch(subject, most)); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "bare:", err) // what it did not deliver is counted as lost
			}
		}
	}
}

// deliver makes the round trips of Processor.deliver, in its order. They are to
// be kept the same: see admit, dedupe, hydrate, write, mark and settle there.
func (b *bareProcessor) deliver(ctx context.Context, msgs []jetstream.Msg) error {
	realm, changes, err := b.changes(msgs)
	if err != nil {
		return err
	}
	refs, advances := make([]state.Ref, len(changes)), make([]state.Advance, len(changes))
	for i, c := range changes {
		refs[i] = state.Ref{Entity: c.GetEntity(), ID: c.GetEntityId()}
		advances[i] = state.Advance{Ref: refs[i], Version: c.GetVersion(), Covered: c.GetLastUpdated().AsTime(), Hash: c.GetContentHash()}
	}
	if _, err := b.tokens.Known(ctx, realm); err != nil {
		return err
	}
	if _, err := b.state.Marks(ctx, realm, sinkName, refs); err != nil {
		return err
	}
	if err := b.read(ctx, realm, statementOf(refs)); err != nil {
		return err
	}
	if err := b.sink.Write(ctx, changes); err != nil {
		return err
	}
	if err := b.state.Advance(ctx, realm, sinkName, advances); err != nil {
		return err
	}
	acked := make([]error, len(msgs))
	var acking sync.WaitGroup
	for i, m := range msgs {
		acking.Go(func() { acked[i] = m.DoubleAck(ctx) })
	}
	acking.Wait()
	return errors.Join(acked...)
}

func (b *bareProcessor) changes(msgs []jetstream.Msg) (realm string, changes []*ledgerfeedv1.Change, err error) {
	for _, m := range msgs {
		env, err := envelope.Decode(m.Data())
		if err != nil {
			return "", nil, err
		}
		realm = env.GetRealmId()
		for _, e := range env.GetEvents() {
			changes = append(changes, changeOf(env, e, b.document))
		}
	}
	return realm, changes, nil
}

// read is a Query whose answer is thrown away.
func (b *bareProcessor) read(ctx context.Context, realm, statement string) error {
	token, err := b.tokens.Token(ctx, realm)
	if err != nil {
		return err
	}
	release, err := b.limiter.Acquire(ctx, realm, qbo.Live)
	if err != nil {
		return err
	}
	defer release()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api+"/v3/company/"+realm+"/query", strings.NewReader(statement))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// statementOf is the Query of the processor.
func statementOf(refs []state.Ref) string {
	ids := make([]string, len(refs))
	for i, r := range refs {
		ids[i] = qbo.Quote(r.ID)
	}
	return fmt.Sprintf("SELECT * FROM Invoice WHERE Id IN (%s) MAXRESULTS %d", strings.Join(ids, ", "), len(ids))
}

// changeOf is what an event and a document make for the sink.
func changeOf(env *ledgerfeedv1.Envelope, e *ledgerfeedv1.Event, document []byte) *ledgerfeedv1.Change {
	now := time.Now()
	return &ledgerfeedv1.Change{
		RealmId: env.GetRealmId(), Entity: e.GetEntity(), EntityId: e.GetEntityId(), Version: qbo.Version(now, "1", false), SyncToken: "1",
		Operation: e.GetOperation(), Source: env.GetSource(), LearnedAt: env.GetReceivedAt(), LastUpdated: timestamppb.New(now),
		EventId: e.GetId(), Document: document, ContentHash: "AAAAAAAAAAA", ReadAt: timestamppb.New(now),
	}
}
