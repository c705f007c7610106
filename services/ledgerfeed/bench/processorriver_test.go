package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// changeJob is an envelope as a job of River's.
type changeJob struct {
	Envelope []byte `json:"envelope"`
}

func (changeJob) Kind() string { return "change" }

// changeWorker does for a job what the processor does for an envelope: reads what
// changed and writes it to the same table. It compares with no marks, waits for no
// limiter and takes no jobs together.
type changeWorker struct {
	river.WorkerDefaults[changeJob]
	client *qbo.Client
	sink   *postgres.Sink
}

func (w *changeWorker) Work(ctx context.Context, job *river.Job[changeJob]) error {
	env, err := envelope.Decode(job.Args.Envelope)
	if err != nil {
		return river.JobCancel(err)
	}
	refs := make([]state.Ref, len(env.GetEvents()))
	of := make(map[string]*ledgerfeedv1.Event, len(refs))
	for i, e := range env.GetEvents() {
		refs[i] = state.Ref{Entity: e.GetEntity(), ID: e.GetEntityId()}
		of[e.GetEntityId()] = e
	}
	result, err := w.client.Query(ctx, env.GetRealmId(), statementOf(refs))
	if err != nil {
		return err
	}
	changes := make([]*ledgerfeedv1.Change, 0, len(refs))
	for _, found := range result.Entities {
		if e := of[found.ID]; e != nil {
			changes = append(changes, changeOf(env, e, found.Raw))
		}
	}
	if len(changes) < len(refs) {
		return fmt.Errorf("%d of %d found", len(changes), len(refs))
	}
	return w.sink.Write(ctx, changes)
}

// oneToken is good for all realms.
type oneToken struct{}

func (oneToken) Token(context.Context, string) (secret.String, error) { return "token", nil }

func (oneToken) Rejected(context.Context, string, secret.String) error { return nil }

// begin is what runRiverProcessor waits for.
func (c *child) begin() error { return c.cmd.Process.Signal(syscall.SIGUSR1) }

// runRiverProcessor works through the jobs from SIGUSR1 on. How often it fetches
// is what River's own benchmark sets to get the most out of it.
func runRiverProcessor() error {
	ctx := context.Background()
	pool, err := riverPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	w := &changeWorker{}
	if w.sink, err = postgres.Open(ctx, postgres.Options{Name: sinkName, URL: secret.String(os.Getenv("BENCH_POSTGRES"))}); err != nil {
		return err
	}
	defer w.sink.Close()
	if w.client, err = qbo.New(qbo.Options{BaseURL: os.Getenv("BENCH_API"), Tokens: oneToken{}}); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	started := make(chan error, 1)
	go func() {
		<-begin
		started <- client.Start(ctx)
	}()
	serving()
	untilParentEnds()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return client.StopAndCancel(stop)
	default:
		return nil
	}
}
