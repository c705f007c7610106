package ingress

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
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

// follow takes what of the settings can be taken while the server runs.
func (s *Server) follow(settings *reload.Settings[Config], conn *stream.Conn) error {
	settings.Refused(s.metrics.reloads.WithLabelValues(reloadRefused).Inc)
	started := false
	return settings.Use(func(c Config) error {
		conn.SetLogin(c.NATS)
		if !started {
			started = true
			return nil // the server was made with them
		}
		return s.Reload(c.Ingress)
	})
}

// watchLateness judges from time to time, until ctx ends.
func (s *Server) watchLateness(ctx context.Context) error {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.judge(now)
		}
	}
}

// files are the files that settings name, by setting.
func (c Config) files() map[string]string {
	files := map[string]string{}
	for key, path := range map[string]string{
		"nats.credentials_file": c.NATS.CredentialsFile, "ingress.tls_cert_file": c.Ingress.TLSCertFile, "ingress.tls_key_file": c.Ingress.TLSKeyFile,
	} {
		if path != "" {
			files[key] = path
		}
	}
	return files
}
