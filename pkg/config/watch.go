package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Files returns the files that Load with the same arguments reads: the
// configuration file, and those that a setting X_FILE names. It is for [Watch];
// what is wrong with them Load says. It leaves the content of a pipe to Load.
func Files(cfg any, file string, environ []string) []string {
	s, err := schemaOf(cfg)
	if err != nil {
		return nil
	}
	if file == "" {
		file = lookup(environ, FileEnv)
	}
	var files []string
	settings, _ := s.readEnv(environ)
	if file != "" {
		files = append(files, file)
	}
	if isFile(file) {
		fromFile, _ := s.readFile(file)
		settings = append(settings, fromFile...)
	}
	for _, set := range settings {
		if path, ok := set.value.(string); ok && set.file {
			files = append(files, path)
		}
	}
	return files
}

const (
	// settle lets a change come to its end: an editor or a kubelet writes, renames
	// and removes in several steps.
	settle = 200 * time.Millisecond
	// patience bounds that, or a busy directory would hide the file in it.
	patience = 2 * time.Second
	// pollEvery finds changes on file systems that send no events.
	pollEvery = 30 * time.Second
	// maxFile bounds what is read of a file to tell whether it has changed.
	maxFile = 16 << 20
	// maxLinks is how many symbolic links a name may go through, as in the kernel.
	maxLinks = 40
)

// Watch tells when the content of files changes. It follows symbolic links that
// are swapped (as Kubernetes replaces a mounted Secret), files that are renamed
// over, and files or directories that are missing for a while. Without events of
// the file system it looks every half minute.
type Watch struct {
	poll time.Duration
	poke chan struct{}

	mu   sync.Mutex                   // guards what follows
	seen map[string][sha256.Size]byte // the content, by the file's name
}

// NewWatch follows files from what is in them now: make it before you read them,
// so that no change is missed.
func NewWatch(files ...string) *Watch {
	w := &Watch{poll: pollEvery, poke: make(chan struct{}, 1)}
	w.Follow(files...)
	return w
}

// Follow replaces the files, and takes what is in them now as known: call it
// before you read them again. A [Watch.Run] that is under way goes on with them.
func (w *Watch) Follow(files ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = map[string][sha256.Size]byte{}
	w.addLocked(files)
}

// Add follows more files, from what is in them now.
func (w *Watch) Add(files ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addLocked(files)
}

func (w *Watch) addLocked(files []string) {
	for _, f := range files {
		w.seen[f] = fingerprint(f)
	}
	select {
	case w.poke <- struct{}{}:
	default: // Run has not come to it yet
	}
}

// Run calls changed, in the same goroutine, when the content of one of the files
// has become another one, until ctx ends.
//
// troubled is told why events do not arrive; the look every half minute goes on.
// changed may meet a file that is still being written: it must keep what it had
// if it cannot use what it reads, and is called again when the content changes
// again.
func (w *Watch) Run(ctx context.Context, troubled func(error), changed func()) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		troubled(fmt.Errorf("watch files: %w", err))
		watcher = nil
	} else {
		defer func() { _ = watcher.Close() }()
		events, errs = watcher.Events, watcher.Errors
	}
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	quiet.Stop() // until there is an event
	told := map[string]bool{}
	var first time.Time // of the events since the last look
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(settle, patience-time.Since(first)))
			continue
		case err := <-errs: // some events are lost, perhaps
			troubled(fmt.Errorf("watch files: %w", err))
		case <-w.poke:
		case <-quiet.C:
		case <-poll.C:
		}
		first = time.Time{}
		// Before the look, so that what happens after it is an event.
		if err := w.attach(watcher, told); err != nil {
			troubled(err)
		}
		if w.look() {
			changed()
		}
	}
}

// look reports whether the content has changed since the last look.
func (w *Watch) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := false
	for f, before := range w.seen {
		w.seen[f] = fingerprint(f)
		changed = changed || w.seen[f] != before
	}
	return changed
}

// attach watches where the files are now. A directory that cannot be watched is
// an error once, and tried again.
func (w *Watch) attach(watcher *fsnotify.Watcher, told map[string]bool) error {
	if watcher == nil {
		return nil
	}
	w.mu.Lock()
	files := slices.Collect(maps.Keys(w.seen))
	w.mu.Unlock()
	var errs []error
	for _, dir := range directories(files) {
		err := watcher.Add(dir)
		if err != nil && !told[dir] {
			errs = append(errs, fmt.Errorf("watch directory %s: %w", dir, err))
		}
		told[dir] = err != nil
	}
	return errors.Join(errs...)
}

// directories are those of the files and of every link on the way to them: what
// a name stands for changes only there. The file itself is not watched: a watch
// would follow it when it is renamed or replaced.
func directories(files []string) []string {
	var dirs []string
	for _, path := range files {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		for range maxLinks {
			link, target := firstLink(path)
			if link == "" {
				break
			}
			dirs = append(dirs, filepath.Dir(link))
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(link), target)
			}
			path = filepath.Join(target, path[len(link):])
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// firstLink is the first symbolic link in a path, and what it says; empty
// without one.
func firstLink(path string) (link, target string) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && !os.IsPathSeparator(path[i]) {
			continue
		}
		if target, err := os.Readlink(path[:i]); err == nil {
			return path[:i], target
		}
	}
	return "", ""
}

// Fingerprint stands for the content of a file, as [Watch] compares it.
func Fingerprint(name string) [sha256.Size]byte { return fingerprint(name) }

// fingerprint stands for the content of a file; one that cannot be read, or only
// once, counts as empty.
func fingerprint(name string) [sha256.Size]byte {
	var content []byte
	if isFile(name) {
		if f, err := os.Open(name); err == nil {
			content, _ = io.ReadAll(io.LimitReader(f, maxFile))
			f.Close()
		}
	}
	return sha256.Sum256(content)
}

// isFile is false for a pipe, which a look would empty.
func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
