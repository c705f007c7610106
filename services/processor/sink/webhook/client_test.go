package webhook_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func post(t *testing.T, o webhook.Options) error {
	t.Helper()
	o.Secrets = []secret.String{newSecret}
	s, err := webhook.Open(o)
	require.NoError(t, err)
	defer s.Close()
	return s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", 1, `{}`)})
}

// A connection that the receiver closes between two requests costs no failure.
func TestWrite_AConnectionThatTheReceiverCloses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var answered, closed atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				answered.Add(1)
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				// It looks open until the second request comes.
				if _, err := http.ReadRequest(r); err == nil {
					closed.Add(1)
				}
			}()
		}
	}()
	s, err := webhook.Open(webhook.Options{URL: "http://" + l.Addr().String(), Secrets: []secret.String{newSecret}, Allow: loopback, Concurrency: 1})
	require.NoError(t, err)
	defer s.Close()
	for i := range 20 {
		require.NoError(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("7", int64(i), `{}`)}))
	}
	require.Equal(t, int64(20), answered.Load())
	require.Positive(t, closed.Load(), "no connection was closed under a request")
}

func TestWrite_SendsTheHeadersOfASink(t *testing.T) {
	e := newEndpoint(t)
	headers := http.Header{"Authorization": {"Bearer t0ken"}, "x-tenant": {"7"}, "User-Agent": {"acme"}}
	require.NoError(t, post(t, webhook.Options{URL: e.URL, Allow: loopback, Headers: headers}))
	require.Len(t, e.requests, 1)
	got := e.requests[0].header
	require.Equal(t, []string{"Bearer t0ken", "7", "acme"}, []string{got.Get("Authorization"), got.Get("X-Tenant"), got.Get("User-Agent")})
	require.Equal(t, got.Get("webhook-id"), got.Get("Idempotency-Key"))
	for name, bad := range map[string]http.Header{
		"Webhook-Id is set by Ledgerfeed":   {"webhook-id": {"1"}},
		"Content-Type is set by Ledgerfeed": {"Content-Type": {"text/plain"}},
		"header name":                       {"a b": {"1"}},
		"value of header X":                 {"X": {"secret\r\nHost: x"}},
	} {
		_, err := webhook.Open(webhook.Options{URL: e.URL, Secrets: []secret.String{newSecret}, Headers: bad})
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "secret\r")
	}
}

// A proxy that is configured is used, and one of the environment is not.
func TestWrite_GoesThroughAProxy(t *testing.T) {
	e := newEndpoint(t)
	var through atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		if r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		out, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), r.Body)
		if err == nil {
			out.Header = r.Header
			var resp *http.Response
			if resp, err = http.DefaultTransport.RoundTrip(out); err == nil {
				defer resp.Body.Close()
				w.WriteHeader(resp.StatusCode)
				return
			}
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	with := secret.String(strings.Replace(proxy.URL, "http://", "http://me:hunter2@", 1))
	require.NoError(t, post(t, webhook.Options{URL: e.URL, Proxy: with}), "the proxy decides where it connects to")
	require.Equal(t, int64(1), through.Load())
	require.Len(t, e.requests, 1)

	t.Setenv("HTTP_PROXY", proxy.URL)
	require.NoError(t, post(t, webhook.Options{URL: e.URL, Allow: loopback}))
	require.Equal(t, int64(1), through.Load())
	_, err := webhook.Open(webhook.Options{URL: e.URL, Secrets: []secret.String{newSecret}, Proxy: "ftp://me:hunter2@x"})
	require.ErrorContains(t, err, "want a proxy")
	require.NotContains(t, err.Error(), "hunter2")
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Internal CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert: cert, key: key}
}

// issue writes a certificate and its key into files.
func (a *authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.n++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return writePEM(t, filepath.Join(dir, name+".crt"), "CERTIFICATE", der), writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", pkcs8)
}

func writePEM(t *testing.T, file, kind string, der []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}

// An endpoint with a certificate of an internal authority that asks for one of ours; the
// one we show is read again when it was renewed.
func TestWrite_InternalAuthoritiesAndClientCertificates(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	caFile := writePEM(t, filepath.Join(dir, "ca.crt"), "CERTIFICATE", ca.cert.Raw)
	serverCert, serverKey := ca.issue(t, dir, "server")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	var shown atomic.Value
	e := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		w.WriteHeader(http.StatusNoContent)
	}))
	e.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	e.Config.ErrorLog = nil
	e.StartTLS()
	defer e.Close()

	certFile, keyFile := ca.issue(t, dir, "feed")
	o := webhook.Options{URL: e.URL, Allow: loopback, CAFile: caFile, ClientCertFile: certFile, ClientKeyFile: keyFile}
	require.NoError(t, post(t, o))
	require.Equal(t, "feed", shown.Load())

	without := o
	without.CAFile = ""
	require.ErrorContains(t, post(t, without), "certificate signed by unknown authority")
	without = o
	without.ClientCertFile, without.ClientKeyFile = "", ""
	require.Error(t, post(t, without))

	renewed, renewedKey := ca.issue(t, dir, "renewed")
	require.NoError(t, os.Rename(renewed, certFile))
	require.NoError(t, os.Rename(renewedKey, keyFile))
	require.NoError(t, post(t, o))
	require.Equal(t, "renewed", shown.Load())

	for _, bad := range []webhook.Options{{CAFile: "nowhere"}, {CAFile: keyFile}, {ClientCertFile: "nowhere", ClientKeyFile: keyFile}} {
		bad.URL, bad.Secrets = e.URL, []secret.String{newSecret}
		_, err := webhook.Open(bad)
		require.ErrorContains(t, err, "webhook sink: ")
	}
}
