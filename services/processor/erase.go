package processor

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// erased reports whether nothing may be kept of a realm any more. It is asked before what
// was admitted earlier is written. Without an answer the answer of admit counts.
func (p *Processor) erased(ctx context.Context, realm string) bool {
	_, err := p.connections.Known(ctx, realm)
	return errors.Is(err, connection.ErrErased)
}

// ErasedSink is what became of a realm's data in a sink.
type ErasedSink struct {
	Sink string `json:"sink"`
	Kind string `json:"kind"` // as in processor.sinks
	// Removed counts rows by table, or lines.
	Removed map[string]int64 `json:"removed,omitempty"`
	// Left says what was not removed, and what to do; "" is nothing.
	Left string `json:"left,omitempty"`
}

// EraseFromSinks deletes what the sinks of the configuration hold of a realm, as far as it is
// theirs to delete: rows of PostgreSQL, and files of this machine. running says that
// processors may hold files open. The stream of the nats sink is the caller's.
func EraseFromSinks(ctx context.Context, c ProcessorConfig, realm string, running, dryRun bool, log *zap.Logger) (all []ErasedSink, err error) {
	specs, err := parseSinks(c.Sinks)
	if err != nil {
		return nil, err
	}
	for _, spec := range specs {
		e := ErasedSink{Sink: spec.name, Kind: spec.kind}
		var err error
		switch spec.kind {
		case kindPostgres:
			err = e.fromPostgres(ctx, spec.postgres(c, log), realm, dryRun)
		case kindJSONL:
			err = e.fromFiles(ctx, spec.place.Reveal(), realm, running, dryRun)
		case kindNATS:
			e.Left = "what its subscribers have taken is theirs to delete"
		default:
			e.Left = "what the receiver has stored is its to delete"
		}
		if err != nil {
			return all, fmt.Errorf("sink %s: %w", spec.name, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func (e *ErasedSink) fromPostgres(ctx context.Context, o postgres.Options, realm string, dryRun bool) error {
	o.KeepLog, o.KeepGaps = 0, 0 // to trim is not asked for
	s, err := postgres.Open(ctx, o)
	if err != nil {
		return err
	}
	e.Removed, err = s.EraseRealm(ctx, realm, dryRun)
	return errors.Join(err, s.Close())
}

func (e *ErasedSink) fromFiles(ctx context.Context, path, realm string, running, dryRun bool) error {
	got, err := jsonl.EraseRealm(ctx, path, realm, running, dryRun)
	e.Removed = map[string]int64{"lines": got.Lines}
	if got.Left > 0 {
		e.Left = fmt.Sprintf("%d lines in %s, which a processor writes to: run it again once the file was put aside, or while no processor runs", got.Left, path)
	}
	return err
}
