package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// RestartError says that settings cannot be taken without a restart, although others of
// their kind can: a URL with another host.
type RestartError struct{ Keys []string }

func (e *RestartError) Error() string {
	return strings.Join(e.Keys, ", ") + ": the change needs a restart"
}

// Settings are those of a program, a struct as config.Load takes it. They are safe for
// concurrent use.
type Settings[T any] struct {
	environ  []string
	defaults func() T
	beside   func(T) map[string]string
	watch    *config.Watch  // nil: they never change
	hangup   chan os.Signal // from the beginning: without, SIGHUP would end the process while it starts

	mu      sync.Mutex // guards what follows
	running T
	takers  []func(T) error
	refusal []func()
	files   map[string][sha256.Size]byte // of beside, by setting
	metrics *metrics
}

// Load reads the settings. beside names the files that they are about, by setting, such as a
// certificate; their users read them. nil is none. Close the settings in the end.
func Load[T any](environ []string, defaults func() T, beside func(T) map[string]string) (*Settings[T], error) {
	if beside == nil {
		beside = func(T) map[string]string { return nil }
	}
	s := &Settings[T]{environ: environ, defaults: defaults, beside: beside, metrics: newMetrics(), hangup: make(chan os.Signal, 1), running: defaults()}
	unset := defaults()
	s.watch = config.NewWatch(config.Files(&unset, "", environ)...)
	if err := config.Load(&s.running, "", environ); err != nil {
		return nil, err
	}
	signal.Notify(s.hangup, syscall.SIGHUP)
	s.watch.Add(s.paths()...)
	s.files = s.contents()
	return s, nil
}

// Fixed are settings that never change.
func Fixed[T any](running T) *Settings[T] {
	return &Settings[T]{running: running, metrics: newMetrics()}
}

// Close ends the attention to SIGHUP.
func (s *Settings[T]) Close() {
	if s.hangup != nil {
		signal.Stop(s.hangup)
	}
}

// Get returns the settings as they are now.
func (s *Settings[T]) Get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// Use calls take with the settings now, and again whenever one of them has changed; one
// call at a time. An error says that nothing was taken. A *RestartError keeps only its own
// settings as they were. take must not call Get or Use.
func (s *Settings[T]) Use(take func(T) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := take(s.running); err != nil {
		return err
	}
	s.takers = append(s.takers, take)
	return nil
}

// Environ is the environment that the settings are from; nil for Fixed ones.
func (s *Settings[T]) Environ() []string { return s.environ }

// Refused calls f whenever settings could not be read.
func (s *Settings[T]) Refused(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = append(s.refusal, f)
}

// Register registers the metrics.
func (s *Settings[T]) Register(r prometheus.Registerer) error { return s.metrics.register(r) }

// Run reads the settings again when it is time, until ctx ends.
func (s *Settings[T]) Run(ctx context.Context, log *zap.Logger) error {
	if s.watch == nil {
		<-ctx.Done()
		return nil
	}
	s.warnExposed(log)
	changed := make(chan struct{}, 1)
	watching, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() { stop(); <-ended }()
	go func() {
		defer close(ended)
		troubled := func(err error) { log.Warn("changes of settings may be seen late", telemetry.Error(err)) }
		s.watch.Run(watching, troubled, func() {
			select {
			case changed <- struct{}{}:
			default: // one is to come, and reads the newest
			}
		})
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hangup:
			s.reload("SIGHUP", log)
		case <-changed:
			s.reload("a file has changed", log)
		}
	}
}

// warnExposed names the files with secrets that every user of the machine may read.
func (s *Settings[T]) warnExposed(log *zap.Logger) {
	unset := s.defaults()
	files := config.SecretFiles(&unset, "", s.environ)
	for setting, path := range s.beside(s.Get()) {
		if strings.HasSuffix(setting, "_key_file") || strings.HasSuffix(setting, "credentials_file") {
			files[setting] = path
		}
	}
	for _, setting := range slices.Sorted(maps.Keys(files)) {
		if config.Exposed(files[setting]) {
			log.Warn("secret file is readable by every user", telemetry.Settings([]string{setting}), telemetry.File(files[setting]),
				telemetry.Reason("give it to the user of this program alone: chmod 600"))
		}
	}
}

func (s *Settings[T]) reload(why string, log *zap.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, restart, err := s.readLocked()
	if len(restart) > 0 {
		log.Warn("settings have changed that need a restart", telemetry.Reason(why), telemetry.Settings(restart))
	}
	switch {
	case err != nil:
		s.metrics.reloads.WithLabelValues(refused).Inc()
		log.Warn("settings not read again: the old ones stay", telemetry.Reason(why), telemetry.Error(err))
		return
	case len(taken) > 0:
		log.Info("settings reloaded", telemetry.Reason(why), telemetry.Settings(taken))
	default:
		log.Info("settings read again, nothing has changed", telemetry.Reason(why))
	}
	s.metrics.reloads.WithLabelValues(applied).Inc()
	s.metrics.last.SetToCurrentTime()
}

// readLocked returns the settings that were taken and those that need a restart.
func (s *Settings[T]) readLocked() (taken, restart []string, err error) {
	// Before the reading, and not what was read at the start: the settings may name other
	// files by now.
	unset := s.defaults()
	s.watch.Follow(append(config.Files(&unset, "", s.environ), s.paths()...)...)
	files := s.contents()
	read := s.defaults()
	if err := config.Load(&read, "", s.environ); err != nil {
		for _, f := range s.refusal {
			f()
		}
		return nil, nil, err
	}
	changed := config.Changed(&s.running, &read)
	taken = config.Live(&read, changed)
	restart = slices.DeleteFunc(changed, func(key string) bool { return slices.Contains(taken, key) })
	next := s.running
	config.Copy(&next, &read, taken)
	if v, ok := any(next).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil { // together with those that stay as they were
			return nil, restart, err
		}
	}
	for i, take := range s.takers {
		kept, err := s.give(take, &next)
		restart = append(restart, kept...)
		taken = slices.DeleteFunc(taken, func(key string) bool { return slices.Contains(kept, key) })
		if err != nil {
			for _, undo := range s.takers[:i] {
				_ = undo(s.running) // it took them before
			}
			return nil, restart, err
		}
	}
	for key, content := range files {
		if s.files[key] != content && !slices.Contains(taken, key) {
			taken = append(taken, key)
		}
	}
	slices.Sort(taken)
	s.running, s.files = next, files
	return taken, restart, nil
}

// give calls take, and once more without the settings that it cannot take, which it returns.
func (s *Settings[T]) give(take func(T) error, next *T) (kept []string, err error) {
	err = take(*next)
	own, ok := errors.AsType[*RestartError](err)
	if !ok {
		return nil, err
	}
	config.Copy(next, &s.running, own.Keys)
	return own.Keys, take(*next)
}

func (s *Settings[T]) paths() []string { return slices.Collect(maps.Values(s.beside(s.running))) }

func (s *Settings[T]) contents() map[string][sha256.Size]byte {
	all := map[string][sha256.Size]byte{}
	for key, path := range s.beside(s.running) {
		all[key] = config.Fingerprint(path)
	}
	return all
}
