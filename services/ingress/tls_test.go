package ingress_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate/certificatetest"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

const day = 24 * time.Hour

// setupTLS is a bundle whose ingress speaks TLS with the leaf; its client trusts
// the authority.
func setupTLS(t *testing.T, a *certificatetest.Authority, leaf certificatetest.Leaf, settings ...setting) *bundle {
	t.Helper()
	b := setup(t, append(settings, func(o *ingress.Options) {
		o.Config.TLSCertFile, o.Config.TLSKeyFile, o.Roots = leaf.CertFile, leaf.KeyFile, a.Roots()
	})...)
	b.client.Transport = &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.Roots()}, ForceAttemptHTTP2: true,
	}
	return b
}

// secure makes the request one to the TLS port.
func secure(req *http.Request) *http.Request {
	req.URL.Scheme = "https"
	return req
}

func (b *bundle) problems() (texts []string) {
	for _, line := range b.logs.FilterMessage("certificate has a problem").All() {
		texts = append(texts, line.ContextMap()["reason"].(string))
	}
	return texts
}

func TestTLS_HTTP2ByDefault(t *testing.T) {
	a := certificatetest.New(t)
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)), configured(func(c *ingress.IngressConfig) { c.MaxBody = 1 << 20 }))
	require.Empty(t, b.problems())
	require.EqualValues(t, 1, b.metric("ledgerfeed_ingress_certificate_accepted"))
	body := event("1", "1")
	for _, tc := range []struct {
		name   string
		body   []byte
		token  secret.String
		path   string
		status int
	}{
		{"signed", body, oldToken, "/webhooks/demo", 200},
		{"wrong", body, "wrong", "/webhooks/demo", 401},
		{"unknown app", body, oldToken, "/webhooks/nobody", 404},
		{"too large", bytes.Repeat([]byte(" "), 1<<20+1), oldToken, "/webhooks/demo", 413},
		{"signed, after all that", body, newToken, "/webhooks/demo", 200},
	} {
		req := secure(b.request(tc.body, tc.token))
		req.URL.Path = tc.path
		resp, err := b.client.Do(req)
		require.NoError(t, err, tc.name)
		resp.Body.Close()
		require.Equal(t, tc.status, resp.StatusCode, tc.name)
		require.Equal(t, 2, resp.ProtoMajor, tc.name)
	}
	require.Equal(t, 1, b.stored())
	b.idle()
}

func TestTLS_SlowBodyIs408OverHTTP2(t *testing.T) {
	a := certificatetest.New(t)
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)), configured(func(c *ingress.IngressConfig) { c.BodyTimeout = 200 * time.Millisecond }))
	body, never := net.Pipe()
	defer never.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.server.Addr()+"/webhooks/demo", body)
	require.NoError(t, err)
	req.ContentLength = 100
	req.Header.Set(webhook.SignatureHeader, plausible)
	resp, err := b.client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 408, resp.StatusCode)
	require.Equal(t, 2, resp.ProtoMajor)
	require.Equal(t, 200, b.secureStatus(event("1", "1")), "the connection goes on")
	b.idle()
}

func (b *bundle) secureStatus(body []byte) int {
	b.t.Helper()
	a, err := b.send(secure(b.request(body, oldToken)))
	require.NoError(b.t, err)
	return a.status
}

func TestTLS_OldVersionsAndPlainHTTPAreRefused(t *testing.T) {
	a := certificatetest.New(t)
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)))
	dial := func(most uint16) error {
		conn, err := tls.Dial("tcp", b.server.Addr(), &tls.Config{RootCAs: a.Roots(), MaxVersion: most, MinVersion: tls.VersionTLS10})
		if err == nil {
			conn.Close()
		}
		return err
	}
	require.Error(t, dial(tls.VersionTLS11))
	require.NoError(t, dial(tls.VersionTLS12))
	require.NoError(t, dial(tls.VersionTLS13))

	resp, err := http.Post("http://"+b.server.Addr()+"/webhooks/demo", "", strings.NewReader("[]"))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "net/http says that this is an HTTPS port")
}

// What Intuit would refuse, and so never tell us, is warned of at the start.
func TestTLS_WarnsOfWhatIntuitRefuses(t *testing.T) {
	a := certificatetest.New(t)
	now := time.Now()
	for name, tc := range map[string]struct {
		leaf     certificatetest.Leaf
		want     string
		accepted float64
	}{
		"self-signed":     {a.SelfSigned(now.Add(-day), now.Add(90*day)), "self-signed", 0},
		"no intermediate": {a.Incomplete(now.Add(-day), now.Add(90*day)), "append the certificate of", 0},
		"expired":         {a.Leaf(now.Add(-2*day), now.Add(-day)), "expired on", 0},
		"expires soon":    {a.Leaf(now.Add(-day), now.Add(7*day)), "expires on", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := setupTLS(t, a, tc.leaf)
			require.Len(t, b.problems(), 1)
			require.Contains(t, b.problems()[0], tc.want)
			require.Equal(t, tc.accepted, b.metric("ledgerfeed_ingress_certificate_accepted"))
			require.EqualValues(t, tc.leaf.Cert.NotAfter.Unix(), b.metric("ledgerfeed_ingress_certificate_expiry_timestamp_seconds"))
		})
	}
}

// A renewal: connections that are open go on, new ones get the new certificate,
// and files that do not fit together change nothing.
func TestTLS_RenewsWithoutARestart(t *testing.T) {
	a := certificatetest.New(t)
	old := a.Leaf(time.Now().Add(-day), time.Now().Add(30*day))
	b := setupTLS(t, a, old)
	serial := func() string {
		conn, err := tls.Dial("tcp", b.server.Addr(), &tls.Config{RootCAs: a.Roots()})
		require.NoError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	reload := func() error {
		c := ingress.DefaultIngressConfig()
		c.Apps = apps
		return b.server.Reload(c)
	}
	first := old.Cert.SerialNumber.String()
	require.Equal(t, first, serial())
	require.Equal(t, 200, b.secureStatus(event("1", "1")))

	renewed, other := a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)), a.Leaf(time.Now().Add(-day), time.Now().Add(90*day))
	half := renewed
	half.KeyFile = other.KeyFile
	half.Install(t, old)
	require.ErrorContains(t, reload(), "private key does not match")
	require.Equal(t, first, serial())

	renewed.Install(t, old)
	require.NoError(t, reload())
	require.Equal(t, renewed.Cert.SerialNumber.String(), serial())
	require.Equal(t, 200, b.secureStatus(event("1", "2")), "the connection of before")
}

// A certificate that stays as it is gets old: it is warned of once for each
// problem, and what is shown follows.
func TestTLS_WarnsWhenTheCertificateGetsOld(t *testing.T) {
	a := certificatetest.New(t)
	now := time.Now()
	b := setupTLS(t, a, a.Leaf(now.Add(-day), now.Add(90*day)))
	for _, tc := range []struct {
		after    time.Duration
		problems int
		accepted float64
	}{{60 * day, 0, 1}, {80 * day, 1, 1}, {81 * day, 1, 1}, {91 * day, 2, 0}, {92 * day, 2, 0}} {
		b.server.Judge(now.Add(tc.after))
		require.Len(t, b.problems(), tc.problems)
		require.Equal(t, tc.accepted, b.metric("ledgerfeed_ingress_certificate_accepted"))
	}
}

// Over HTTP/2 a proxy has everybody's requests on one connection: what a stranger
// gets wrong must not cost the others theirs.
func TestTLS_ARefusalDoesNotTouchTheOthersOfItsConnection(t *testing.T) {
	a := certificatetest.New(t)
	h := newHeld()
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)), h.with(), configured(func(c *ingress.IngressConfig) { c.MaxBody = 1 << 20 }))
	var dialed atomic.Int64
	b.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	status := make(chan int, 1)
	go func() {
		answer, _ := b.send(secure(b.request(event("1", "1"), oldToken)))
		status <- answer.status
	}()
	<-h.arrived
	for path, want := range map[string]int{"/": 404, "/webhooks/nobody": 404, "/webhooks/demo": 413} {
		req := secure(b.request(bytes.Repeat([]byte(" "), 1<<20+1), oldToken))
		req.URL.Path = path
		answer, err := b.send(req)
		require.NoError(t, err)
		require.Equal(t, want, answer.status)
	}
	// The certificate and the tokens are replaced meanwhile, too.
	require.NoError(t, b.reload(apps))
	close(h.release)
	require.Equal(t, 200, <-status)
	require.EqualValues(t, 1, dialed.Load())
}

func TestTLS_AHandshakeThatHangsIsEnded(t *testing.T) {
	a := certificatetest.New(t)
	b := setupTLS(t, a, a.Leaf(time.Now().Add(-day), time.Now().Add(90*day)))
	conn, err := net.Dial("tcp", b.server.Addr())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the server closed it, not we")
}

func TestConfig_CertificateWantsItsKey(t *testing.T) {
	c := ingress.DefaultIngressConfig()
	c.Apps, c.TLSCertFile = apps, "x.crt"
	require.ErrorContains(t, c.Validate(), "ingress.tls_cert_file")
	c.TLSKeyFile = "x.key"
	require.NoError(t, c.Validate())
	c.Listen = "127.0.0.1:0"
	_, err := ingress.New(ingress.Options{Config: c, Publisher: &counting{}})
	require.ErrorContains(t, err, "x.crt")
}

// The service sees by itself that a certificate was renewed, also after SIGHUP,
// when the files are named anew.
func TestServe_TakesARenewedCertificate(t *testing.T) {
	a := certificatetest.New(t)
	now := time.Now()
	used, address := a.Leaf(now.Add(-day), now.Add(30*day)), freeAddress(t)
	serve(t, devtest.NATS(t), "LEDGERFEED_ADMIN_LISTEN="+freeAddress(t), "LEDGERFEED_INGRESS_LISTEN="+address, "LEDGERFEED_INGRESS_APPS=demo=verifier-token-one",
		"LEDGERFEED_INGRESS_TLS_CERT_FILE="+used.CertFile, "LEDGERFEED_INGRESS_TLS_KEY_FILE="+used.KeyFile)
	for i := range 2 {
		renewed := a.Leaf(now.Add(-day), now.Add(90*day))
		renewed.Install(t, used)
		require.Eventually(t, func() bool {
			conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: a.Roots()})
			require.NoError(t, err)
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0].Equal(renewed.Cert)
		}, 20*time.Second, 50*time.Millisecond)
		if i == 0 { // not at the end: one that arrives after the service has ended ends this process
			require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		}
	}
}
