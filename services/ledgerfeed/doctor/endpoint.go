package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// The checks of the endpoint.
const (
	checkDNS         = "dns"
	checkPort        = "port"
	checkTLS         = "tls"
	checkCertificate = "certificate"
	checkPath        = "path"
	checkForged      = "forged"
	checkProbe       = "probe"
)

// endpoint looks at the public endpoint from the outside, as far as this machine
// is outside.
func (x *exam) endpoint(ctx context.Context) {
	if x.PublicURL == nil {
		x.skip("endpoint", "give --public-url with the URL that Intuit's portal has", "not looked at from the outside")
		return
	}
	if !x.dns(ctx) || !x.port(ctx) {
		return
	}
	if x.PublicURL.Scheme == "https" {
		if !x.tls(ctx) {
			return
		}
	} else {
		x.fail(checkTLS, "end TLS at the ingress (ingress.tls_cert_file) or at a proxy in front, and enter the https URL in the portal",
			"%s is not https, and Intuit posts to nothing else", x.PublicURL.Redacted())
	}
	token := x.path()
	x.forged(ctx)
	x.probes(ctx, token)
}

// dns reports whether it makes sense to go on.
func (x *exam) dns(ctx context.Context) bool {
	host := x.PublicURL.Hostname()
	addrs, err := x.lookup(ctx, host)
	if err != nil || len(addrs) == 0 {
		x.fail(checkDNS, "create an A or AAAA record for it, or correct the URL in the portal and here", "%s has no address: %v", host, err)
		return false
	}
	var texts []string
	public := false
	for _, a := range addrs {
		texts = append(texts, a.String())
		public = public || a.IsGlobalUnicast() && !a.IsPrivate()
	}
	if !public {
		x.warn(checkDNS, "Intuit calls from the internet: give the name a public address, or run doctor outside of your network",
			"%s is %s from here, which cannot be reached from the internet", host, strings.Join(texts, ", "))
		return true
	}
	x.ok(checkDNS, "%s is %s", host, strings.Join(texts, ", "))
	return true
}

func (x *exam) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return x.Resolve(ctx, host)
}

// address is the host and port of the public URL.
func (x *exam) address() string {
	port := x.PublicURL.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[x.PublicURL.Scheme]
	}
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(x.PublicURL.Hostname(), port)
}

func (x *exam) port(ctx context.Context) bool {
	conn, err := x.Dial(ctx, "tcp", x.address())
	if err != nil {
		x.fail(checkPort, "start the ingress or the proxy in front of it, and open the port in the firewall", "%s takes no connection: %v", x.address(), err)
		return false
	}
	_ = conn.Close()
	x.ok(checkPort, "%s takes connections", x.address())
	return true
}

// tls reports whether it makes sense to go on.
func (x *exam) tls(ctx context.Context) bool {
	s, err := x.handshake(ctx, tls.VersionTLS12)
	if err != nil {
		old, again := x.handshake(ctx, tls.VersionTLS10)
		if again == nil {
			x.fail(checkTLS, "enable TLS 1.2 and 1.3 in the proxy that ends TLS", "the server offers only %s, and Intuit wants 1.2 or newer", tls.VersionName(old.Version))
			return false
		}
		x.fail(checkTLS, "see that the port speaks TLS and has a certificate for the name", "no TLS session with %s: %v", x.address(), err)
		return false
	}
	x.ok(checkTLS, "%s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
	x.certificate(s.PeerCertificates)
	return true
}

func (x *exam) handshake(ctx context.Context, least uint16) (tls.ConnectionState, error) {
	raw, err := x.Dial(ctx, "tcp", x.address())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	c := tls.Client(raw, x.tlsConfig(least))
	if err := c.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.ConnectionState(), nil
}

// tlsConfig believes any certificate: it is judged in a check of its own, and must
// not hide what is behind it. Nothing secret is sent.
func (x *exam) tlsConfig(least uint16) *tls.Config {
	return &tls.Config{ServerName: x.PublicURL.Hostname(), InsecureSkipVerify: true, MinVersion: least}
}

func (x *exam) certificate(chain []*x509.Certificate) {
	if len(chain) == 0 {
		x.fail(checkCertificate, "install one from a public authority", "the server shows no certificate")
		return
	}
	bad := false
	for _, p := range certificate.Check(chain, x.Roots, x.Now()) {
		bad = true
		switch {
		case p.Kind == certificate.Unjudged:
			x.warn(checkCertificate, "install ca-certificates here", "%s", p.Text)
		case p.Refused():
			x.fail(checkCertificate, adviceOn(p.Kind), "%s: %s", p.Kind, p.Text)
		default:
			x.warn(checkCertificate, adviceOn(p.Kind), "%s: %s", p.Kind, p.Text)
		}
	}
	if err := chain[0].VerifyHostname(x.PublicURL.Hostname()); err != nil {
		bad = true
		x.fail(checkCertificate, "get a certificate for that name", "it is for another name: %v", err)
	}
	if !bad {
		x.ok(checkCertificate, "chain of %d to a public authority, valid until %s", len(chain), chain[0].NotAfter.UTC().Format("2006-01-02"))
	}
}

func adviceOn(k certificate.Kind) string {
	switch k {
	case certificate.Incomplete:
		return "put the intermediate certificates behind the server's own (fullchain.pem): Intuit fetches none"
	case certificate.Expired, certificate.Expiring:
		return "renew it; the ingress reads the new file without a restart"
	case certificate.NotYet:
		return "set the clock of the server, or wait"
	default:
		return "get a certificate from a public authority; Intuit refuses any other"
	}
}

// path compares the path with the apps that are configured and returns the tokens
// that Intuit may sign with.
func (x *exam) path() secret.String {
	apps, err := ingress.VerifierTokens(x.Config.Ingress.Apps)
	if err != nil {
		if x.Config.Ingress.Apps != "" {
			x.fail(checkPath, "correct LEDGERFEED_INGRESS_APPS", "%v", err)
		}
		return x.Token
	}
	name := path.Base(x.PublicURL.Path)
	tokens, known := apps[name]
	if !known || !strings.HasSuffix(path.Dir(x.PublicURL.Path), "/webhooks") {
		var ends []string
		for app := range apps {
			ends = append(ends, "/webhooks/"+app)
		}
		x.warn(checkPath, "enter https://HOST/webhooks/NAME in the portal, unless your proxy changes the path",
			"the path %q is not one of the ingress (%s)", x.PublicURL.Path, strings.Join(ends, ", "))
	} else {
		x.ok(checkPath, "the path is that of the app %s", name)
	}
	if x.Token == "" && len(tokens) > 0 {
		return tokens[0]
	}
	return x.Token
}

// status names an answer.
func status(code int) string {
	switch code {
	case 404:
		return "404: the path leads to no listener"
	case 413:
		return "413: a proxy takes no such body"
	case 502, 503, 504:
		return fmt.Sprintf("%d: what is behind the endpoint does not answer, or the broker cannot store", code)
	}
	return fmt.Sprint(code)
}
