package ingress

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Reload takes the tokens and the certificate that c names: both, or neither and
// an error. Requests in hand end with what they began with. Other settings of c
// are not looked at: they need a restart.
func (s *Server) Reload(c IngressConfig) error {
	apps, err := parseApps(c.Apps)
	if err == nil && s.cert != nil {
		pair, perr := s.cert.read()
		if err = perr; err == nil {
			s.setCertificate(pair)
		}
	}
	if err != nil {
		s.metrics.reloads.WithLabelValues(reloadRefused).Inc()
		return err
	}
	s.setApps(apps)
	s.metrics.reloads.WithLabelValues(reloadApplied).Inc()
	s.metrics.lastRead.SetToCurrentTime()
	return nil
}

// app is nil for one that is not known.
func (s *Server) app(name string) *app { return (*s.apps.Load())[name] }

func (s *Server) setApps(apps map[string]*app) {
	before := map[string]*app{}
	if b := s.apps.Load(); b != nil {
		before = *b
	}
	s.metrics.follow(apps, before)
	s.apps.Store(&apps)
	s.signers.Store(newSigners(apps))
}

// reloader reads the settings again when their files change and on SIGHUP.
type reloader struct {
	server  *Server
	running Config
	environ []string
	watch   *config.Watch
	hangup  <-chan os.Signal
	log     *zap.Logger
}

// run returns when ctx ends.
func (r *reloader) run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	watching, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() { stop(); <-ended }()
	go func() {
		defer close(ended)
		r.watch.Run(watching, r.troubled, func() {
			select {
			case changed <- struct{}{}:
			default: // one is to come, and reads the newest
			}
		})
	}()
	judge := time.NewTicker(judgeEvery)
	defer judge.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.hangup:
			r.reload("SIGHUP")
		case <-changed:
			r.reload("a file has changed")
		case now := <-judge.C:
			r.server.judge(now)
		}
	}
}

// settingsFiles are the files that the settings are read from.
func settingsFiles(environ []string) []string {
	c := DefaultConfig()
	return config.Files(&c, "", environ)
}

// files are those of the certificate; none without TLS.
func (c IngressConfig) files() []string {
	if c.TLSCertFile == "" {
		return nil
	}
	return []string{c.TLSCertFile, c.TLSKeyFile}
}

func (r *reloader) troubled(err error) {
	r.log.Warn("changes of settings may be seen late", telemetry.Error(err))
}

// reload keeps what runs where the new settings cannot be used: a file may be
// half written, and a wrong token must not stop the right ones.
func (r *reloader) reload(why string) {
	// Before the reading, and not what was read at the start: the settings may
	// name other files by now.
	r.watch.Follow(append(settingsFiles(r.environ), r.running.Ingress.files()...)...)
	c := DefaultConfig()
	err := config.Load(&c, "", r.environ)
	if err != nil {
		r.server.metrics.reloads.WithLabelValues(reloadRefused).Inc()
	} else {
		err = r.server.Reload(c.Ingress)
	}
	if err != nil {
		r.log.Warn("settings not read again: the old ones stay", telemetry.Reason(why), telemetry.Error(err))
		return
	}
	if keys := needRestart(r.running, c); len(keys) > 0 {
		r.log.Warn("settings have changed that need a restart", telemetry.Reason(why), telemetry.Settings(keys))
	}
	tokens := 0
	for _, a := range *r.server.apps.Load() {
		tokens += len(a.tokens)
	}
	r.log.Info("tokens and certificate read again", telemetry.Reason(why), telemetry.Count(tokens))
}

// needRestart are the settings other than the tokens that differ.
func needRestart(running, c Config) []string {
	c.Ingress.Apps = running.Ingress.Apps
	return config.Changed(&running, &c)
}
