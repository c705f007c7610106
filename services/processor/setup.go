package processor

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// SetupOptions say what SetUp makes, and how.
type SetupOptions struct {
	Config ProcessorConfig
	Broker *stream.Conn
	// Sinks are the names of those that a program brings itself, see ServeWith.
	Sinks []string
	// PostgresUser migrates in place of the user in a sink's URL, who is then given the rights
	// of a writer. Empty: that user migrates.
	PostgresUser string
	Logger       *zap.Logger
	// Done hears of each part that is as configured; may be nil.
	Done func(what string)
}

// SetUp makes what the processors of a configuration only compare where nats.setup and
// processor.postgres_setup are verify: their consumers, the stream of a NATS sink, and the
// tables and rights in PostgreSQL. It may be repeated, and run beside processors.
func SetUp(ctx context.Context, o SetupOptions) error {
	specs, err := parseSinks(o.Config.Sinks)
	if err != nil {
		return err
	}
	// Of a version that had one consumer for all partitions: the broker takes no
	// second one for a partition.
	if err := o.Broker.DeleteConsumer(ctx, stream.Events, durableName); err != nil {
		return err
	}
	all := o.consumers(specs)
	if err := o.Broker.EnsureConsumers(ctx, all...); err != nil {
		return err
	}
	o.done("%d consumers", len(all))
	for _, spec := range specs {
		if err := o.sink(ctx, spec); err != nil {
			return fmt.Errorf("set up sink %s: %w", spec.name, err)
		}
	}
	return nil
}

// consumers are those of the queues, and of the sinks that may keep the ledger of gaps.
func (o SetupOptions) consumers(specs []sinkSpec) []stream.ConsumeOptions {
	names, keepers := []string{}, slices.Clone(o.Sinks)
	for _, spec := range specs {
		names = append(names, spec.name)
		if spec.kind == kindPostgres {
			keepers = append(keepers, spec.name)
		}
	}
	all := Consumers(o.Config, append(names, o.Sinks...))
	for _, name := range keepers {
		all = append(all, gapOptions(o.Config, name))
	}
	return all
}

func (o SetupOptions) sink(ctx context.Context, spec sinkSpec) error {
	switch spec.kind {
	case kindNATS:
		if err := o.Broker.EnsureChanges(ctx); err != nil {
			return err
		}
		o.done("stream %s of sink %s", stream.ChangeStream, spec.name)
	case kindPostgres:
		writer, err := postgres.SetUp(ctx, spec.postgres(o.Config, o.Logger), o.PostgresUser)
		if err != nil {
			return err
		}
		o.done("tables of sink %s, written by role %s", spec.name, writer)
	}
	return nil
}

func (o SetupOptions) done(format string, args ...any) {
	if o.Done != nil {
		o.Done(fmt.Sprintf(format, args...))
	}
}
