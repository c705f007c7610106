package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Sink is where changes go. Write may be called from several goroutines at
// once, but within one process never for one entity by two of them.
type Sink interface {
	// Name is the sink's name in the marks and in the retry queue. It stands for
	// the place written to: another place is another sink.
	Name() string
	// Write stores changes, at most one of an entity in a call. nil means that
	// all of them will survive a crash. An error that is stream.Permanent says
	// that at least one of them will never be taken; any other is tried again.
	// A change that is older than the one held must not replace it.
	Write(ctx context.Context, changes []*ledgerfeedv1.Change) error
	// Close is called by whoever opened the sink, not by the processor.
	Close() error
}

// sinkSpec is one entry of ProcessorConfig.Sinks.
type sinkSpec struct {
	name, kind string
	place      secret.String // a URL may hold a password
}

const (
	kindJSONL    = "jsonl"
	kindPostgres = "postgres"
)

func parseSinks(entries []string) ([]sinkSpec, error) {
	var specs []sinkSpec
	var errs []error
	for i, entry := range entries {
		spec, err := parseSink(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("processor.sinks, entry %d: %w", i+1, err))
			continue
		}
		if slices.ContainsFunc(specs, func(s sinkSpec) bool { return s.name == spec.name }) {
			errs = append(errs, fmt.Errorf("processor.sinks, entry %d: a second sink called %q: put NAME= before one of them", i+1, spec.name))
		}
		specs = append(specs, spec)
	}
	return specs, errors.Join(errs...)
}

// parseSink reads [NAME=]jsonl:PATH or [NAME=]postgres:URL. The entry is not in
// the error: it may hold a password.
func parseSink(entry string) (sinkSpec, error) {
	kind, place, ok := strings.Cut(strings.TrimSpace(entry), ":")
	name, named, hasName := strings.Cut(kind, "=")
	if hasName {
		kind = named
	} else {
		name = kind
	}
	if kind == "postgresql" {
		kind = kindPostgres
	}
	switch {
	case !ok || place == "" || name == "" || kind != kindJSONL && kind != kindPostgres:
		return sinkSpec{}, errors.New("want [NAME=]jsonl:PATH or [NAME=]postgres:URL")
	case kind == kindPostgres && strings.HasPrefix(place, "//"):
		place = "postgres:" + place // postgres://… was meant as the URL
	}
	return sinkSpec{name: name, kind: kind, place: secret.String(place)}, nil
}

// OpenSinks opens the sinks of a configuration. On an error those that were open
// already are closed again.
func OpenSinks(ctx context.Context, entries []string) ([]Sink, error) {
	specs, err := parseSinks(entries)
	if err != nil {
		return nil, err
	}
	var sinks []Sink
	for _, spec := range specs {
		s, err := spec.open(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open sink %s: %w", spec.name, err), closeSinks(sinks))
		}
		sinks = append(sinks, s)
	}
	return sinks, nil
}

func (s sinkSpec) open(ctx context.Context) (Sink, error) {
	if s.kind == kindPostgres {
		return postgres.Open(ctx, postgres.Options{Name: s.name, URL: s.place})
	}
	return jsonl.Open(jsonl.Options{Name: s.name, Path: s.place.Reveal()})
}

func closeSinks(sinks []Sink) error {
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
