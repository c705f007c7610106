package startup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Options are what [Listen] needs.
type Options struct {
	// Listen is where the admin endpoint is.
	Listen string
	// Pprof serves profiles beyond loopback, too.
	Pprof    bool
	Gatherer prometheus.Gatherer
	Logger   *zap.Logger
	// Group runs the endpoint, as the first of its parts.
	Group *lifecycle.Group
}

// Health is what the admin endpoint says of a program. It is safe for concurrent use.
type Health struct {
	admin *telemetry.Admin
	log   *zap.Logger

	mu      sync.Mutex // guards what follows
	missing map[string]error
	since   time.Time
	ready   func(context.Context) error // nil until the program has started
	details func() map[string]string
}

const (
	// Between two tries.
	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
	// sayEvery is how often it is logged that something is still missing.
	sayEvery = time.Minute
)

var errStarting = errors.New("starting")

// Listen opens the admin endpoint. The program is not ready until [Health.Started].
func Listen(ctx context.Context, o Options) (*Health, error) {
	h := &Health{log: o.Logger, missing: map[string]error{}, since: time.Now()}
	var err error
	h.admin, err = telemetry.NewAdmin(telemetry.AdminOptions{
		Listen: o.Listen, Pprof: o.Pprof, Gatherer: o.Gatherer, Logger: o.Logger.Named("admin"), Ready: h.Ready, Details: h.detail,
	})
	if err != nil {
		return nil, err
	}
	o.Group.Start(ctx, "admin", h.admin.Run)
	return h, nil
}

// Addr is where the admin endpoint listens; empty when it is off.
func (h *Health) Addr() string { return h.admin.Addr() }

// Started hands over to the program: ready and details are asked from now on. details may
// be nil.
func (h *Health) Started(ready func(context.Context) error, details func() map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready, h.details = ready, details
}

// Ready is nil, or says why the program cannot work now.
func (h *Health) Ready(ctx context.Context) error {
	h.mu.Lock()
	ready, missing := h.ready, h.missingLocked()
	h.mu.Unlock()
	if ready != nil {
		return ready(ctx)
	}
	return missing
}

func (h *Health) missingLocked() error {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(h.missing)) {
		text += fmt.Sprintf("; %s: %v", name, h.missing[name])
	}
	return fmt.Errorf("%w for %s%s", errStarting, time.Since(h.since).Round(time.Second), text)
}

func (h *Health) detail() map[string]string {
	h.mu.Lock()
	details := h.details
	h.mu.Unlock()
	if details == nil {
		return nil
	}
	return details()
}

// Wait calls try until it succeeds, fails for good, or ctx ends. Meanwhile /readyz shows
// the error under what, the name of a server or of a part.
func (h *Health) Wait(ctx context.Context, what string, temporary func(error) bool, try func() error) error {
	var began, said time.Time
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := try()
		if err == nil || !temporary(err) {
			h.note(what, nil)
			if err == nil && !began.IsZero() {
				h.log.Info("server reachable; startup continues", telemetry.Part(what), telemetry.Took(time.Since(began)))
			}
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		h.note(what, err)
		if now := time.Now(); now.Sub(said) >= sayEvery {
			h.log.Warn("startup waits for a server", telemetry.Part(what), telemetry.Error(err))
			said = now
			if began.IsZero() {
				began = now
			}
		}
		if err := lifecycle.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (h *Health) note(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.missing, what)
		return
	}
	h.missing[what] = err
}
