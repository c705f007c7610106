package jsonl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// Snapshot is the newest version of each entity in the file.
func (s *Sink) Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	return Snapshot(ctx, s.path)
}

// Records are the changes in the file, in the order they were delivered.
func (s *Sink) Records(ctx context.Context) iter.Seq2[sink.Record, error] {
	return Records(ctx, s.path)
}

// Snapshot is the newest version of each entity in the file at path. A file that
// is not there holds nothing.
func Snapshot(ctx context.Context, path string) (map[sink.Ref]sink.Row, error) {
	newest := map[sink.Ref]sink.Row{}
	for r, err := range Records(ctx, path) {
		if err != nil {
			return nil, err
		}
		if held, ok := newest[r.Ref]; !ok || held.Version < r.Version {
			newest[r.Ref] = r.Row()
		}
	}
	return newest, nil
}

// Records are the changes in the file at path, in the order they were delivered.
// It may be read while it is written: a last line without its end is left out,
// for its writer has not been told that it is stored.
func Records(ctx context.Context, path string) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		file, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err != nil {
			yield(sink.Record{}, err)
			return
		}
		defer file.Close()
		lines := bufio.NewReaderSize(file, 256<<10)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if err == nil {
				err = ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return
			}
			var r sink.Record
			if err == nil {
				err = json.Unmarshal(line, &r)
			}
			if err != nil {
				yield(sink.Record{}, fmt.Errorf("read %s, line %d: %w", path, n, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}
