package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Files returns the files that Load with the same arguments reads: the
// configuration file, and those that a setting X_FILE names. It is for [Watch];
// what is wrong with them Load says.
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
	// pollEvery finds changes on file systems that send no events.
	pollEvery = 30 * time.Second
)

// Watch calls changed, in the same goroutine, when the content of one of the
// files has become another one, until ctx ends. It follows symbolic links that
// are swapped (as Kubernetes replaces a mounted Secret), files that are renamed
// over, and files that are missing for a while. Without events of the file
// system it looks every half minute.
//
// troubled is told why events do not arrive; the look every half minute goes on.
// changed may meet a file that is still being written: it must keep what it had
// if it cannot use what it reads, and is called again when the content changes
// again.
func Watch(ctx context.Context, files []string, troubled func(error), changed func()) {
	events, errs := make(<-chan fsnotify.Event), make(<-chan error)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		troubled(fmt.Errorf("watch files: %w", err))
	} else {
		defer func() { _ = watcher.Close() }()
		events, errs = watcher.Events, watcher.Errors
		// The directory and not the file: a watch follows the file that was replaced.
		for _, dir := range directories(files) {
			if err := watcher.Add(dir); err != nil {
				troubled(fmt.Errorf("watch directory %s: %w", dir, err))
			}
		}
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for seen := fingerprint(files); ; {
		select {
		case <-ctx.Done():
			return
		case <-events:
			quiet.Reset(settle)
			continue
		case err := <-errs:
			troubled(fmt.Errorf("watch files: %w", err))
			continue
		case <-quiet.C:
		case <-poll.C:
		}
		if now := fingerprint(files); now != seen {
			seen = now
			changed()
		}
	}
}

// directories are those of the files and of what they link to.
func directories(files []string) []string {
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, filepath.Dir(f))
		if target, err := filepath.EvalSymlinks(f); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// maxFile bounds what is read of a file to tell whether it has changed.
const maxFile = 16 << 20

// fingerprint stands for the content of the files; one that cannot be read has
// its own.
func fingerprint(files []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range files {
		content := []byte("missing")
		if f, err := os.Open(name); err == nil {
			content, _ = io.ReadAll(io.LimitReader(f, maxFile))
			f.Close()
		}
		own := sha256.Sum256(content)
		fmt.Fprintf(h, "%d:%s:%x\n", len(name), name, own)
	}
	h.Sum(sum[:0])
	return sum
}
