package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/net/http/httpguts"
)

// idleTimeout is below that of common receivers (5 s of Node.js, 60 s of load balancers): a
// connection that both ends close at once costs a request.
const idleTimeout = 4 * time.Second

// pingAfter is how long an HTTP/2 connection with requests may be silent before it is asked
// for a sign of life, and how long the answer may take.
const pingAfter = 4 * time.Second

// newClient connects only to addresses that are public or allowed. The check is
// made on the address that is dialled, when it is known: a name may change what
// it stands for between a check and the connection. Through a proxy, which resolves the
// names itself, it is the proxy's to check.
func newClient(o Options) (*http.Client, error) {
	var v4, v6 []netip.Prefix
	for _, p := range o.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	guard := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	dialer := &net.Dialer{Timeout: o.Timeout, Control: guard.Safe}
	// No proxy of the environment: it would connect where the guard forbids. What an
	// endpoint writes into its answers is not read, so that it need not be compressed.
	transport := &http.Transport{
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: o.Concurrency, IdleConnTimeout: idleTimeout, DisableCompression: true,
		// A firewall may forget a connection without a word. One of HTTP/2 carries all
		// requests, and nothing else would end it while there are any.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
	}
	if o.Proxy != "" {
		proxy, err := url.Parse(o.Proxy.Reveal())
		if err != nil || proxy.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, proxy.Scheme) {
			return nil, errors.New("webhook sink: want a proxy http://…, https://… or socks5://…")
		}
		transport.Proxy = http.ProxyURL(proxy)
		dialer.Control = nil
	}
	transport.DialContext = dialer.DialContext
	var err error
	if transport.TLSClientConfig, err = tlsConfig(o); err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: o.Timeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func tlsConfig(o Options) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("webhook sink: certificate authorities: %w", err)
		}
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool() // the system has none
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("webhook sink: %s holds no certificate in PEM", o.CAFile)
		}
	}
	if o.ClientCertFile == "" {
		return config, nil
	}
	if _, err := tls.LoadX509KeyPair(o.ClientCertFile, o.ClientKeyFile); err != nil {
		return nil, fmt.Errorf("webhook sink: client certificate: %w", err)
	}
	// Read for each handshake: a certificate that was renewed counts from the next
	// connection on.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(o.ClientCertFile, o.ClientKeyFile)
		return &c, err
	}
	return config, nil
}

// ours are the headers that a sink sets itself, or that belong to the connection.
var ours = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Host", "Idempotency-Key", "Keep-Alive", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func checkHeaders(headers http.Header) error {
	for name, values := range headers {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return errors.New("webhook sink: a header name has invalid characters")
		case slices.Contains(ours, canonical) || strings.HasPrefix(canonical, "Webhook-"):
			return fmt.Errorf("webhook sink: the header %s is set by Ledgerfeed", canonical)
		case slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }):
			return fmt.Errorf("webhook sink: the value of header %s has invalid characters", canonical)
		}
	}
	return nil
}
