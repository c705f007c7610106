package devserver

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// compactAt is how much may be appended before the journal is rewritten, and it
// must also have become four times what it was after the last rewrite.
const compactAt int64 = 64 << 20

// journal is the append-only file behind a Redis. Operations are appended in the
// order they ran; one sync takes all that came in during the last.
type journal struct {
	path      string
	redis     *Redis
	lock      *os.File
	compactAt int64
	flusher   sync.WaitGroup

	mu       sync.Mutex // guards the rest
	cond     *sync.Cond
	file     journalFile
	size     int64 // of file
	limit    int64 // size at which to rewrite
	pending  []byte
	appended uint64 // number of the last operation appended
	synced   uint64 // and of the last one on disk
	closing  bool
	err      error // sticky: nothing is answered after it
}

// journalFile is an *os.File.
type journalFile interface {
	io.WriteCloser
	Sync() error
}

// openJournal replays the file into r, rewrites it as a snapshot and leaves it
// open for appending.
func openJournal(path string, r *Redis, compactAt int64) (*journal, error) {
	if err := writable(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	j := &journal{path: path, redis: r, lock: lock, compactAt: compactAt}
	j.cond = sync.NewCond(&j.mu)
	if err := replay(path, r); err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	if err := j.rewriteLocked(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	j.flusher.Add(1)
	go j.flush()
	return j, nil
}

// append takes an operation down and returns the number to wait for. It does not
// block. Redis' lock is held: the order here is the order of execution.
func (j *journal) append(o op) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(o.commands) > 0 {
		j.pending = o.encode(j.pending)
		j.appended++
		j.cond.Broadcast()
	}
	return j.appended
}

func (j *journal) wait(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.synced < seq && j.err == nil {
		j.cond.Wait()
	}
	return j.err
}

// close writes what is pending. Everything that was answered is on disk already.
func (j *journal) close() {
	j.mu.Lock()
	j.closing = true
	j.cond.Broadcast()
	j.mu.Unlock()
	j.flusher.Wait()
	j.file.Close()
	j.lock.Close()
}

func (j *journal) flush() {
	defer j.flusher.Done()
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		for len(j.pending) == 0 && !j.closing {
			j.cond.Wait()
		}
		if len(j.pending) == 0 || j.err != nil {
			return
		}
		if j.size > j.limit {
			j.rewrite()
			continue
		}
		payload, seq := j.pending, j.appended
		j.pending = nil
		// Others append meanwhile; what they append goes into the next frame.
		j.mu.Unlock()
		n, err := writeFrame(j.file, payload)
		if err == nil {
			err = j.file.Sync()
		}
		j.mu.Lock()
		j.size += n
		j.settle(seq, err)
	}
}

func (j *journal) settle(seq uint64, err error) {
	if err != nil {
		j.err = fmt.Errorf("journal %s: %w", j.path, err)
	} else {
		j.synced = seq
	}
	j.cond.Broadcast()
}

// rewrite replaces the file by a snapshot, which has what is pending in it. The
// lock is held, and given up to take Redis' first.
func (j *journal) rewrite() {
	j.mu.Unlock()
	j.redis.mu.Lock()
	defer j.redis.mu.Unlock()
	j.mu.Lock()
	j.pending = nil
	j.settle(j.appended, j.rewriteLocked())
}

// rewriteLocked writes the snapshot beside the file and renames it over it: a
// crash leaves the old one or the new one.
func (j *journal) rewriteLocked() error {
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	size, err := writeSnapshot(f, j.redis)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("write snapshot: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.limit = f, size, max(size*4, size+j.compactAt)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
