package chaos

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// journal is a file of JSON lines: what the run did and saw, in order.
type journal struct {
	mu   sync.Mutex // guards file
	file *os.File
}

func newJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{file: f}, nil
}

// write adds a line. What cannot be written is not worth ending a run for: the
// disk may be full on purpose.
func (j *journal) write(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.file.Write(append(line, '\n'))
}

// note adds a line of the run's own log.
func (j *journal) note(kind, about, text string) {
	j.write(struct {
		At    time.Time `json:"at"`
		Kind  string    `json:"kind"`
		About string    `json:"about,omitempty"`
		Text  string    `json:"text"`
	}{time.Now().UTC(), kind, about, text})
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.file.Close()
}
