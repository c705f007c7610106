package tokenimport

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// Done is a file of the lines that were imported, so that a run that was broken off
// goes on from there. It holds the ids of companies and digests of their tokens. A nil
// Done knows nothing and keeps nothing.
type Done struct {
	mu   sync.Mutex // guards the rest
	file *os.File
	seen map[string]bool
}

// OpenDone reads the file, or makes it. Close it.
func OpenDone(path string) (*Done, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	d := &Done{file: file, seen: map[string]bool{}}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		d.seen[scanner.Text()] = true // a torn last line is none
	}
	if err := scanner.Err(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return d, nil
}

// ReadDone is OpenDone for a run that keeps nothing; a file that is not there is
// empty. It needs no closing.
func ReadDone(path string) (*Done, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d := &Done{seen: map[string]bool{}}
	for line := range strings.Lines(string(text)) {
		d.seen[strings.TrimSuffix(line, "\n")] = true
	}
	return d, nil
}

// Has reports whether the line was imported.
func (d *Done) Has(l Line) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[entry(l)]
}

// Add notes that the line was imported.
func (d *Done) Add(l Line) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[entry(l)] = true
	if d.file == nil {
		return nil
	}
	if _, err := d.file.WriteString("\n" + entry(l) + "\n"); err != nil {
		return fmt.Errorf("note that realm %s is imported: %w", l.Realm, err)
	}
	return nil
}

// Close closes the file.
func (d *Done) Close() error {
	if d == nil || d.file == nil {
		return nil
	}
	return d.file.Close()
}

// entry stands for a line: with another token it is another one.
func entry(l Line) string {
	sum := sha256.Sum256([]byte("ledgerfeed import\x00" + l.Realm + "\x00" + l.Refresh.Reveal()))
	return l.Realm + " " + hex.EncodeToString(sum[:16])
}
