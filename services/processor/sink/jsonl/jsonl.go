// Package jsonl is a sink that appends changes to a JSON Lines file: one
// sink.Record a line, in the order they were delivered. A file that is large or
// old enough is put aside under a name with the time, and a new one begun:
// changes.jsonl is the newest, changes.20261126T184117.123Z.jsonl an earlier one,
// and the order of the names is the order of the lines.
//
// # What it guarantees
//
// Write returns nil only after the lines are on disk (fsync; writers that come
// at the same time share one). A line is whole or not there: what a crash or a
// full disk tore off is cut at the next open, and nobody was told it was stored.
// A file is put aside only once all of it is on disk, and is never touched again.
//
// # What it does not do
//
// It keeps every version delivered, and a change delivered again after a crash
// stands there twice, with the same key: the newest version of an entity is the
// one that counts ([Snapshot] reads that). One process writes a file at a time,
// and the newest file must not be moved or cut while it is open.
package jsonl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// errUndone: the lines were written but are not on disk for certain, because an
// fsync failed or the file was closed.
var errUndone = errors.New("cancelled before it was on disk")

// Options say where to write.
type Options struct {
	// Name is the sink's name in the marks; "jsonl" if empty.
	Name string
	// Path is the file; created if missing, with its directory, for the owner only.
	Path string
	// MaxBytes is the size from which a file is put aside; 0 is never.
	MaxBytes int64
	// MaxAge is how long after its first line a file is put aside; 0 is never.
	MaxAge time.Duration
	// Keep is how many files that were put aside stay, the newest; 0 is all. The
	// lines of the others are gone.
	Keep int
	// Logger hears of files that could not be put aside; nil is none.
	Logger *zap.Logger
}

// Sink appends to a file. It is safe for concurrent use.
type Sink struct {
	name, path string
	rotation   rotation

	syncing sync.Mutex // held during an fsync; taken before mu

	mu     sync.Mutex // guards the rest
	file   *os.File   // nil after a failure: the next Write opens it again
	closed bool
	// Counted over all files since Open, so that a receipt outlives its file.
	size   int64 // what was written
	synced int64 // what is on disk for certain
	start  int64 // where the file begins
	epoch  int   // grows when what was written but not synced is given up
	aging  aging
}

// receipt is what a writer waits for: that everything up to end is on disk.
type receipt struct {
	epoch int
	end   int64
}

// Open opens the file and cuts a torn last line. Close it.
func Open(o Options) (*Sink, error) {
	if o.Path == "" {
		return nil, errors.New("jsonl sink: no path given")
	}
	if o.Name == "" {
		o.Name = "jsonl"
	}
	s := &Sink{name: o.Name, path: o.Path, rotation: newRotation(o)}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("jsonl sink: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("jsonl sink: %w", err)
	}
	s.ageOfOpened()
	return s, nil
}

// open leaves the file at the end of its last whole line.
func (s *Sink) open() error {
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	whole, err := wholeLines(file)
	if err == nil {
		err = errors.Join(file.Truncate(whole), file.Sync(), syncDir(filepath.Dir(s.path)))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", s.path, err), file.Close())
	}
	s.file, s.size, s.synced = file, s.start+whole, s.start+whole
	return nil
}

// Name is the sink's name in the marks.
func (s *Sink) Name() string { return s.name }

// Write appends changes and returns when they are on disk. It does not look at
// the versions held: an older change becomes a line like any other.
func (s *Sink) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	if len(changes) == 0 {
		return nil
	}
	lines, err := encode(changes)
	if err != nil {
		return stream.Permanent(stream.ReasonSinkRefused, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	r, err := s.append(lines)
	if err == nil {
		err = s.commit(r)
	}
	if err != nil {
		return fmt.Errorf("append to %s: %w", s.path, err)
	}
	return nil
}

func encode(changes []*ledgerfeedv1.Change) ([]byte, error) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for _, c := range changes {
		record := sink.RecordOf(c)
		if err := enc.Encode(record); err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w", record.Key, err)
		}
	}
	return lines.Bytes(), nil
}

func (s *Sink) append(lines []byte) (receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return receipt{}, os.ErrClosed
	}
	if s.file == nil {
		if err := s.reopenLocked(); err != nil {
			return receipt{}, err
		}
	}
	if _, err := s.file.Write(lines); err != nil {
		return receipt{}, errors.Join(err, s.giveUpLocked())
	}
	s.size += int64(len(lines))
	s.ageLocked(time.Now())
	return receipt{epoch: s.epoch, end: s.size}, nil
}

// commit waits for the disk. Whoever holds syncing syncs for all who wrote
// before it began; they find their lines on disk when their turn comes.
func (s *Sink) commit(r receipt) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()

	s.mu.Lock()
	file, size, epoch, synced := s.file, s.size, s.epoch, s.synced
	s.mu.Unlock()
	if r.epoch != epoch {
		return errUndone
	}
	if synced >= r.end {
		return nil
	}
	err := file.Sync()

	s.mu.Lock()
	defer s.mu.Unlock()
	if r.epoch != s.epoch {
		return errUndone
	}
	if err != nil {
		return errors.Join(err, s.giveUpLocked())
	}
	s.synced = size
	s.rotateIfDueLocked()
	return nil
}

// giveUpLocked forgets what is not on disk for certain: after a failed fsync the
// system may report success for pages it has dropped, so trying it again proves
// nothing. The writers of those lines get an error and write them again.
func (s *Sink) giveUpLocked() error {
	err := s.file.Close()
	s.file = nil
	s.epoch++
	return err
}

func (s *Sink) reopenLocked() error {
	held := s.synced - s.start
	err := os.Truncate(s.path, held)
	if held == 0 && errors.Is(err, os.ErrNotExist) {
		err = nil // the file before it was put aside, this one not begun
	}
	if err != nil {
		return err
	}
	return s.open()
}

// Close closes the file. Closing twice is safe.
func (s *Sink) Close() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.aging.stop()
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Sync(), s.giveUpLocked())
}
