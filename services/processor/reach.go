package processor

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

// SinkReach is whether a configured sink can be written to from here.
type SinkReach struct {
	Name, Kind string
	// Probed says that a write was tried and taken back; else the sink was only reached.
	Probed bool
	// Err is why it cannot be; it shows no password.
	Err error
}

const reachTimeout = 10 * time.Second

// ReachSinks tries each sink of a configuration, in their order, and changes nothing: a
// write to PostgreSQL is rolled back, and the others are only connected to. broker is for
// sinks that publish; nil means that it does not answer. The error is for a configuration
// that cannot be read.
func ReachSinks(ctx context.Context, c ProcessorConfig, broker *stream.Conn) ([]SinkReach, error) {
	specs, err := parseSinks(c.Sinks)
	if err != nil {
		return nil, err
	}
	var all []SinkReach
	for _, spec := range specs {
		within, cancel := context.WithTimeout(ctx, reachTimeout)
		all = append(all, SinkReach{spec.name, spec.kind, spec.kind == kindPostgres, spec.reach(within, c, broker)})
		cancel()
	}
	return all, nil
}

func (s sinkSpec) reach(ctx context.Context, c ProcessorConfig, broker *stream.Conn) error {
	switch s.kind {
	case kindNATS:
		if broker == nil {
			return stream.ErrUnreachable
		}
		return broker.Ready(ctx)
	case kindPostgres:
		return postgres.Probe(ctx, s.postgres(c, nil))
	case kindWebhook:
		out, err := c.openWebhook(s)
		if err != nil {
			return err
		}
		defer func() { _ = out.Close() }()
		return out.Reach(ctx)
	default:
		return writable(s.place.Reveal())
	}
}

// writable reports whether a file can be appended to, or made in its directory.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		return f.Close()
	}
	if !os.IsNotExist(err) {
		return err
	}
	f, err = os.CreateTemp(filepath.Dir(path), ".ledgerfeed-*")
	if err != nil {
		return err
	}
	_ = f.Close()
	return os.Remove(f.Name())
}
