package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// keyPair is the certificate in use, which a reading may replace: handshakes
// that begin afterwards get the new one, connections that are open go on.
type keyPair struct {
	certFile, keyFile string
	roots             *x509.CertPool
	current           atomic.Pointer[tls.Certificate]
	known             atomic.Pointer[[]certificate.Problem] // of it, and warned of
}

// streams is how many requests one HTTP/2 connection may have in hand: each
// costs memory, and one sender must not take all of it.
const streams = 100

// useTLS makes the server speak TLS 1.2 and later, with HTTP/2 offered.
func (s *Server) useTLS(roots *x509.CertPool) error {
	s.cert = &keyPair{certFile: s.config.TLSCertFile, keyFile: s.config.TLSKeyFile, roots: roots}
	pair, err := s.cert.read()
	if err != nil {
		return err
	}
	s.setCertificate(pair)
	s.http.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.cert.current.Load(), nil
		},
	}
	s.http.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: streams, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10,
		// WriteTimeout ends a stream only, and a peer that reads nothing has the
		// connection wait for ever.
		WriteByteTimeout: s.http.WriteTimeout,
	}
	return nil
}

// read takes the pair from its files. The error never quotes them.
func (p *keyPair) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("ingress.tls_cert_file %s with ingress.tls_key_file %s: %w", p.certFile, p.keyFile, err)
	}
	return &pair, nil
}

// setCertificate uses the pair from now on.
func (s *Server) setCertificate(pair *tls.Certificate) {
	s.cert.current.Store(pair)
	s.cert.known.Store(nil)
	s.judge(time.Now())
}

// judgeEvery is how often a certificate is judged that stays as it is: it gets old.
const judgeEvery = time.Hour

// judge warns of what Intuit would refuse, once: the webhooks would stop, and the
// server see nothing of it but failed handshakes.
func (s *Server) judge(now time.Time) {
	if s.cert == nil {
		return
	}
	var chain []*x509.Certificate
	for _, der := range s.cert.current.Load().Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	problems := certificate.Check(chain, s.cert.roots, now)
	accepted := 1.0
	known := s.cert.known.Swap(&problems)
	for _, p := range problems {
		if p.Refused() {
			accepted = 0
		}
		if known == nil || !slices.Contains(*known, p) {
			s.log.Warn("certificate has a problem", telemetry.Reason(p.Text))
		}
	}
	s.metrics.accepted.Set(accepted)
	if len(chain) > 0 {
		s.metrics.expiry.Set(float64(chain[0].NotAfter.Unix()))
	}
}
