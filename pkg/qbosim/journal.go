package qbosim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const journalVersion = 1

var errClosed = errors.New("the simulator is closed")

// entry is one line of the journal. Its kind is whichever field is set.
type entry struct {
	Version int       `json:"journal,omitempty"` // the first line
	Realm   string    `json:"realm,omitempty"`
	Added   bool      `json:"added,omitempty"` // the realm was made
	At      time.Time `json:"at,omitzero"`
	Steps   uint64    `json:"steps,omitempty"` // drawn so far, this one included
	Writes  []written `json:"writes,omitempty"`
	Events  []event   `json:"events,omitempty"` // webhooks to send
	Acked   []uint64  `json:"acked,omitempty"`  // their sequence numbers
	Code    *code     `json:"code,omitempty"`
	Grant   *grant    `json:"grant,omitempty"`
	Expired bool      `json:"expired,omitempty"` // the realm's access tokens
	Revoked bool      `json:"revoked,omitempty"` // all its tokens
	Consent uint64    `json:"consent,omitempty"` // only those of this consent were revoked
}

// written is one record as a write leaves it.
type written struct {
	Entity    string          `json:"entity"`
	ID        string          `json:"id"`
	Operation string          `json:"operation"`
	SyncToken string          `json:"syncToken,omitempty"`
	Deleted   bool            `json:"deleted,omitempty"`
	Inactive  bool            `json:"inactive,omitempty"`
	Raw       json.RawMessage `json:"raw"`
	// Updated is LastUpdatedTime where it is not the time of the write.
	Updated time.Time `json:"updated,omitzero"`
	Derived bool      `json:"derived,omitempty"`
}

func (w written) state(at time.Time) State {
	if !w.Updated.IsZero() {
		at = w.Updated
	}
	return State{
		Version:     versionOf(at, w.SyncToken, w.Deleted),
		SyncToken:   w.SyncToken,
		LastUpdated: at.Truncate(time.Second),
		Deleted:     w.Deleted,
		Inactive:    w.Inactive,
		Operation:   w.Operation,
		Derived:     w.Derived,
		Raw:         w.Raw,
	}
}

// journal is an append-only file of JSON lines. A line is handed to the
// kernel whole before its effect is visible, which kill -9 cannot undo; a
// power failure can, as nothing is synced.
type journal struct {
	mu   sync.Mutex
	file *os.File // nil: in memory only
	size int64    // of the whole lines
	err  error    // what made the journal unusable
}

// openJournal hands every line to apply, cuts a torn last one off, and goes on
// behind it.
func openJournal(path string, apply func(entry) error) (*journal, error) {
	j := &journal{}
	if path == "" {
		return j, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // tokens are in it
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.file = file
	if err := j.replay(apply); err != nil {
		return nil, errors.Join(fmt.Errorf("read journal %s: %w", path, err), file.Close())
	}
	if j.size > 0 {
		return j, nil
	}
	if err := j.append(entry{Version: journalVersion}); err != nil {
		return nil, errors.Join(fmt.Errorf("begin journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *journal) replay(apply func(entry) error) error {
	lines := bufio.NewReaderSize(j.file, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // a line without an end was torn: its effect was never seen
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			if _, more := lines.Peek(1); errors.Is(more, io.EOF) {
				break
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		if n == 1 && e.Version != journalVersion {
			return fmt.Errorf("it is no journal of version %d", journalVersion)
		}
		if err := apply(e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		j.size += int64(len(line))
	}
	return j.rewind()
}

func (j *journal) append(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if j.file == nil {
		return nil
	}
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(e); err != nil {
		return fmt.Errorf("encode journal line: %w", err)
	}
	if _, err := j.file.Write(line.Bytes()); err != nil {
		// Half a line may be there: the next must not be glued to it.
		if undo := j.rewind(); undo != nil {
			j.err = fmt.Errorf("journal is unusable: %w", errors.Join(err, undo))
		}
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(line.Len())
	return nil
}

// rewind cuts off whatever is behind the last whole line.
func (j *journal) rewind() error {
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	_, err := j.file.Seek(j.size, io.SeekStart)
	return err
}

// Close makes every later append fail, in memory too.
func (j *journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.err, errClosed) {
		return nil
	}
	j.err = errClosed
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
