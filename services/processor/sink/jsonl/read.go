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

// Snapshot is the newest version of each entity in the files.
func (s *Sink) Snapshot(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	return Snapshot(ctx, s.path)
}

// Records are the changes in the files, in the order they were delivered.
func (s *Sink) Records(ctx context.Context) iter.Seq2[sink.Record, error] {
	return Records(ctx, s.path)
}

// Snapshot is the newest version of each entity in the file at path and those
// that were put aside before it. A file that is not there holds nothing.
func Snapshot(ctx context.Context, path string) (map[sink.Ref]sink.Row, error) {
	newest := map[sink.Ref]sink.Row{}
	for r, err := range Records(ctx, path) {
		if err != nil {
			return nil, err
		}
		if held, ok := newest[r.Ref]; !ok || r.Supersedes(held) {
			newest[r.Ref] = r.Row()
		}
	}
	return newest, nil
}

// Empty reports whether there is nothing in the file at path, nor in one that
// was put aside before it.
func Empty(path string) (bool, error) {
	names, err := aside(path)
	if err != nil {
		return false, err
	}
	for _, name := range append(names, path) {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || info.Size() > 0 {
			return false, err
		}
	}
	return true, nil
}

// Records are the changes in the file at path and those that were put aside
// before it, in the order they were delivered. They may be read while they are
// written: a last line without its end is left out, for its writer has not been
// told that it is stored.
func Records(ctx context.Context, path string) iter.Seq2[sink.Record, error] {
	return func(yield func(sink.Record, error) bool) {
		err := readAll(path, func(r sink.Record) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(sink.Record{}, err)
		}
	}
}

// errEnough ends reading early.
var errEnough = errors.New("enough")

// firstRecord is the oldest in the file at path itself.
func firstRecord(path string) (first sink.Record, err error) {
	file, err := os.Open(path)
	if err != nil {
		return sink.Record{}, err
	}
	defer file.Close()
	err = readLines(file, func(r sink.Record) error { first = r; return errEnough })
	if errors.Is(err, errEnough) {
		return first, nil
	}
	return sink.Record{}, errors.Join(err, io.ErrUnexpectedEOF)
}

func readAll(path string, each func(sink.Record) error) error {
	// Before the others are listed: put aside in between, it is found among them
	// as the same file, and no file is missed.
	newest, err := openIfThere(path)
	if err != nil {
		return err
	}
	if newest != nil {
		defer newest.Close()
	}
	names, err := aside(path)
	if err != nil {
		return err
	}
	read := false // newest, under its other name
	for _, name := range names {
		file, err := openIfThere(name)
		if err != nil {
			return err
		}
		if file == nil {
			continue // removed since it was listed
		}
		read = read || sameFile(file, newest)
		err = readLines(file, each)
		file.Close()
		if err != nil {
			return err
		}
	}
	if newest == nil || read {
		return nil
	}
	return readLines(newest, each)
}

func openIfThere(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return file, err
}

func sameFile(a, b *os.File) bool {
	if b == nil {
		return false
	}
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func readLines(file *os.File, each func(sink.Record) error) error {
	lines := bufio.NewReaderSize(file, 256<<10)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		var r sink.Record
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err == nil {
			err = each(r)
		}
		if err != nil {
			return fmt.Errorf("read %s, line %d: %w", file.Name(), n, err)
		}
	}
}
