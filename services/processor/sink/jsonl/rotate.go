package jsonl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// rotation says when a file is put aside.
type rotation struct {
	maxBytes int64
	maxAge   time.Duration
	keep     int
	log      *zap.Logger
	step     func(string) // hears of each step; for tests
}

// aging is how old the file is, and what is to come of it.
type aging struct {
	since time.Time   // its first line; zero if it has none
	timer *time.Timer // puts it aside; nil if nothing does
	retry time.Time   // not to be put aside before
	last  string      // the name under which the one before it was put aside
}

func newRotation(o Options) rotation {
	log := o.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return rotation{maxBytes: o.MaxBytes, maxAge: o.MaxAge, keep: o.Keep, log: log.With(telemetry.Sink(o.Name)), step: func(string) {}}
}

// retryAfter is how long a file that cannot be put aside is left to grow.
const retryAfter = time.Minute

// ageOfOpened is when the first line was learned: no file system that we know of
// tells portably when a file was made.
func (s *Sink) ageOfOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rotation.maxAge <= 0 || s.size == 0 {
		return
	}
	since := time.Now()
	if r, err := firstRecord(s.path); err == nil {
		since = r.LearnedAt
	}
	s.ageLocked(since)
}

// ageLocked starts the file's age with its first line.
func (s *Sink) ageLocked(at time.Time) {
	if s.rotation.maxAge <= 0 || !s.aging.since.IsZero() {
		return
	}
	s.aging.since = at
	s.aging.timer = time.AfterFunc(time.Until(at.Add(s.rotation.maxAge)), s.rotateIfDue)
}

func (a *aging) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
	a.since, a.timer = time.Time{}, nil
}

func (s *Sink) rotateIfDue() {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.file != nil {
		s.rotateIfDueLocked()
	}
}

// rotateIfDueLocked needs both locks. A failure is no failure of a write: the
// lines are on disk, and the file goes on growing.
func (s *Sink) rotateIfDueLocked() {
	held, now := s.size-s.start, time.Now()
	large := s.rotation.maxBytes > 0 && held >= s.rotation.maxBytes
	old := !s.aging.since.IsZero() && now.Sub(s.aging.since) >= s.rotation.maxAge
	if held == 0 || !large && !old || now.Before(s.aging.retry) {
		return
	}
	if err := s.rotateLocked(); err != nil {
		s.aging.retry = now.Add(retryAfter)
		s.rotation.log.Warn("file not rotated", telemetry.Error(err), telemetry.After(retryAfter))
	}
}

// rotateLocked puts the file aside and begins a new one. A crash leaves, at any
// point, whole files: before the rename the old one under its old name, after it
// perhaps no newest one, which the next open makes.
func (s *Sink) rotateLocked() error {
	if s.synced < s.size { // others wrote during the last fsync
		if err := s.file.Sync(); err != nil {
			return errors.Join(err, s.giveUpLocked())
		}
		s.synced = s.size
	}
	s.rotation.step("on disk")
	err := s.file.Close() // Windows renames no open file
	s.file = nil
	if err == nil {
		err = s.putAside()
	}
	if err = errors.Join(err, s.open()); err != nil {
		return err
	}
	s.rotation.step("begun")
	return s.removeOldest()
}

// putAside renames the file. On disk it has its new name before there is another
// one under the old.
func (s *Sink) putAside() error {
	name, err := s.nextName()
	if err != nil {
		return err
	}
	if err := os.Rename(s.path, name); err != nil {
		return err
	}
	s.aging.stop()
	s.aging.last, s.start = name, s.size
	s.rotation.step("put aside")
	return syncDir(filepath.Dir(s.path))
}

func (s *Sink) removeOldest() error {
	if s.rotation.keep <= 0 {
		return nil
	}
	names, err := aside(s.path)
	if err != nil || len(names) <= s.rotation.keep {
		return err
	}
	var errs []error
	for _, name := range names[:len(names)-s.rotation.keep] {
		s.rotation.step("removing")
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

const nameTime = "20060102T150405.000Z"

// nextName is behind all names there are or were, also if the clock went back.
func (s *Sink) nextName() (string, error) {
	names, err := aside(s.path)
	if err != nil {
		return "", err
	}
	last := s.aging.last
	if len(names) > 0 {
		last = max(last, names[len(names)-1])
	}
	stem, ext := split(s.path)
	name := stem + time.Now().UTC().Format(nameTime) + ext
	if name > last {
		return name, nil
	}
	at, err := time.Parse(nameTime, strings.TrimSuffix(strings.TrimPrefix(last, stem), ext))
	if err != nil {
		return "", fmt.Errorf("next file name after %s: %w", last, err)
	}
	return stem + at.Add(time.Millisecond).Format(nameTime) + ext, nil
}

// aside are the files at path that were put aside, the oldest first.
func aside(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stem, ext := split(filepath.Base(path))
	ours := regexp.MustCompile(`^` + regexp.QuoteMeta(stem) + `\d{8}T\d{6}\.\d{3}Z` + regexp.QuoteMeta(ext) + `$`)
	var names []string
	for _, e := range entries {
		if ours.MatchString(e.Name()) {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

// split is what stands before and after the time in a name.
func split(path string) (stem, ext string) {
	ext = filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + ".", ext
}
