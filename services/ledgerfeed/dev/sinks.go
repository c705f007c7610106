package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"
)

// openSink is a sink that this run writes to.
type openSink struct {
	target   Target
	tally    *tally
	snapshot func(context.Context) (snapshot, error)
}

// place is a sink that can tell what it holds.
type place interface {
	processor.Sink
	Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error)
	Records(ctx context.Context) iter.Seq2[sink.Record, error]
}

// holdings are the newest changes of a place with their contents. Which change is
// the newest is the sink's to say; of several at one version the last one counts.
func holdings(ctx context.Context, p place) (snapshot, error) {
	rows, err := p.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	held := make(snapshot, len(rows))
	for ref, row := range rows {
		held[ref] = holding{Row: row}
	}
	for r, err := range p.Records(ctx) {
		if err != nil {
			return nil, err
		}
		if h, ok := held[r.Ref]; ok && h.Version == r.Version && h.Deleted == r.Deleted {
			h.content = contentOf(r.Document)
			held[r.Ref] = h
		}
	}
	return held, nil
}

// openSinks opens every target and closes all again if one fails. known are
// the sinks that marks exist for.
func openSinks(ctx context.Context, o Options, data *dataDir, known []string, first func(time.Time)) (open []*openSink, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSinks(open))
			open = nil
		}
	}()
	for _, t := range o.Sinks {
		p, err := openPlace(ctx, o, t, data, known)
		if err != nil {
			return open, fmt.Errorf("--sink %s: %w", t, err)
		}
		var before snapshot
		if o.For > 0 {
			if before, err = holdings(ctx, p); err != nil {
				return open, errors.Join(fmt.Errorf("--sink %s: %w", t, err), p.Close())
			}
		}
		open = append(open, &openSink{
			target: t, tally: newTally(p, before, first),
			snapshot: func(ctx context.Context) (snapshot, error) { return holdings(ctx, p) },
		})
	}
	return open, nil
}

func closeSinks(open []*openSink) error {
	var errs []error
	for _, s := range open {
		errs = append(errs, s.tally.Close())
	}
	return errors.Join(errs...)
}

// openPlace opens a target. Was it emptied since the last run, it gets another
// name: by the marks of the old one it holds everything already.
func openPlace(ctx context.Context, o Options, t Target, data *dataDir, known []string) (place, error) {
	name, err := data.sinkName(t, false)
	if err != nil {
		return nil, err
	}
	if slices.Contains(known, name) {
		empty, err := isEmpty(ctx, t)
		if err != nil {
			return nil, err
		}
		if empty {
			if name, err = data.sinkName(t, true); err != nil {
				return nil, err
			}
		}
	}
	return openNamed(ctx, o, t, name)
}

func openNamed(ctx context.Context, o Options, t Target, name string) (place, error) {
	switch t.Kind {
	case kindPostgres:
		return openPostgres(ctx, t, name)
	case kindWebhook:
		return openWebhook(o, t, name)
	}
	s, err := jsonl.Open(jsonl.Options{Name: name, Path: t.Where})
	if err != nil {
		return nil, lifecycle.Usage(err)
	}
	return s, nil
}

func openPostgres(ctx context.Context, t Target, name string) (place, error) {
	s, err := postgres.Open(ctx, postgres.Options{Name: name, URL: secret.String(t.Where)})
	if err != nil {
		return nil, databaseError(err)
	}
	// A database that is away is no error of Open: the processor would wait for
	// it. Here a person is waiting.
	if _, err := s.Snapshot(ctx); err != nil {
		return nil, databaseError(errors.Join(err, s.Close()))
	}
	return s, nil
}

// endpoint is a sink that cannot tell what it holds.
type endpoint struct{ *webhook.Sink }

// Snapshot is not to be had: Options.Validate refuses --for, which asks for it.
func (endpoint) Snapshot(context.Context) (map[sink.Ref]sink.Row, error) {
	return nil, errors.ErrUnsupported
}

// Records is not to be had either.
func (endpoint) Records(context.Context) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) { yield(sink.Record{}, errors.ErrUnsupported) }
}

// openWebhook lets the endpoint be on this machine, where a developer's is.
func openWebhook(o Options, t Target, name string) (place, error) {
	s, err := webhook.Open(webhook.Options{
		Name: name, URL: t.Where, Secrets: []secret.String{o.WebhookSecret},
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	})
	if err != nil {
		return nil, lifecycle.Usage(err)
	}
	return endpoint{s}, nil
}

// databaseError is one line and tells a database that does not answer from one
// that refuses.
func databaseError(err error) error {
	var ne net.Error
	if errors.As(err, &ne) {
		return &codedError{error: fmt.Errorf("the database does not answer: %w", ne), code: lifecycle.ExitUnreachable}
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

func isEmpty(ctx context.Context, t Target) (bool, error) {
	if t.Kind == kindWebhook {
		return false, nil // nobody can tell
	}
	if t.Kind == kindJSONL {
		return jsonl.Empty(t.Where)
	}
	s, err := openPostgres(ctx, t, "")
	if err != nil {
		return false, err
	}
	rows, err := s.Snapshot(ctx)
	return len(rows) == 0, errors.Join(err, s.Close())
}

// sinkName is the target's name in the marks: the kind and a hash of the
// place, and how often the place was found emptied.
func (d *dataDir) sinkName(t Target, emptied bool) (string, error) {
	const file = "sinks.json"
	times := map[string]int{}
	text, err := os.ReadFile(d.file(file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", unusable(d.path, err)
	}
	if err == nil {
		if err := json.Unmarshal(text, &times); err != nil {
			return "", fmt.Errorf("read %s: %w", d.file(file), err)
		}
	}
	base := t.name()
	if emptied {
		times[base]++
		if text, err = json.Marshal(times); err != nil {
			return "", fmt.Errorf("encode %s: %w", d.file(file), err)
		}
		if err := d.replace(file, text); err != nil {
			return "", err
		}
	}
	if n := times[base]; n > 0 {
		return fmt.Sprintf("%s-%d", base, n), nil
	}
	return base, nil
}
