// Package processor delivers changes to the sinks.
package processor

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// ProcessorConfig is what an operator sets about the processor.
type ProcessorConfig struct{}

// DefaultProcessorConfig is the usual setting.
func DefaultProcessorConfig() ProcessorConfig { return ProcessorConfig{} }

// Validate names the field and the value that cannot work.
func (c ProcessorConfig) Validate() error { return nil }

// Options are what New needs.
type Options struct {
	Config      ProcessorConfig
	Stream      *stream.Conn
	State       *state.Store
	QBO         *qbo.Client
	Connections *connection.Store
	Sinks       []Sink
	Logger      *zap.Logger
	Registerer  prometheus.Registerer
	Now         func() time.Time
}

// Processor delivers changes to the sinks.
type Processor struct{}

// New checks the options.
func New(o Options) (*Processor, error) { return &Processor{}, nil }

// Run consumes until ctx ends, then drains.
func (p *Processor) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Idle reports whether nothing waits and nothing is in hand.
func (p *Processor) Idle(ctx context.Context) (bool, error) { return true, nil }

// Stats are counts since New.
type Stats struct {
	// Delivered counts changes by how they were learned.
	Delivered map[ledgerfeedv1.Source]int64
	// Written counts changes by sink.
	Written map[string]int64
	// Duplicates counts events that needed no call.
	Duplicates int64
	Tombstones int64
	Dead       int64
	Parked     int64
	// Calls counts calls to the API, failed ones included.
	Calls int64
}

// Stats are counts since New.
func (p *Processor) Stats() Stats { return Stats{} }
