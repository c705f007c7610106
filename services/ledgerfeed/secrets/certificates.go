package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// servers are the names by which clients reach each server, in compose and in Kubernetes.
var servers = map[string][]string{
	"nats":     {"nats", "nats-0.nats", "nats-1.nats", "nats-2.nats"},
	"redis":    {"redis", "redis-0.redis", "redis-1.redis", "*.redis.ledgerfeed.svc", "*.redis-sentinel", "*.redis-sentinel.ledgerfeed.svc"},
	"postgres": {"postgres"},
}

// authority signs the certificates of the servers, and nothing else.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // nil: it is kept elsewhere
}

const day = 24 * time.Hour

// certificates makes the authority and the certificates that are missing or end soon.
func (m *maker) certificates() error {
	if err := m.openAuthority(); err != nil {
		return err
	}
	for _, server := range []string{"nats", "redis", "postgres"} {
		if err := m.certificate(server); err != nil {
			return fmt.Errorf("certificate of %s: %w", server, err)
		}
	}
	return nil
}

func (m *maker) openAuthority() error {
	if m.there("ca.crt") {
		m.Say("kept", "ca.crt")
		return m.readAuthority()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Ledgerfeed servers"}, SerialNumber: serial(), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: m.Now().Add(-day), NotAfter: m.Now().Add(max(10*365*day, m.Valid)),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	m.authority = &authority{cert: template, key: key}
	if m.authority.cert, err = m.sign(template, &key.PublicKey); err != nil {
		return err
	}
	private, err := privateText(key)
	if err != nil {
		return err
	}
	return errors.Join(m.writeMode("ca.key", private, ownMode), m.write("ca.crt", certificateText(m.authority.cert)))
}

func (m *maker) readAuthority() error {
	cert, err := m.readCertificate("ca.crt")
	if err != nil {
		return err
	}
	m.authority = &authority{cert: cert}
	text, err := os.ReadFile(m.path("ca.key"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("ca.key: no key in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("ca.key: %w", err)
	}
	own, ok := key.(*ecdsa.PrivateKey)
	if !ok || !own.PublicKey.Equal(cert.PublicKey) {
		return errors.New("ca.key: it is not the key of ca.crt")
	}
	m.authority.key = own
	return nil
}

func (m *maker) readCertificate(name string) (*x509.Certificate, error) {
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no certificate in it", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return cert, nil
}

// certificate makes the one of a server, or makes it again before it ends.
func (m *maker) certificate(server string) error {
	file, keyFile, what := server+".crt", server+".key", "made"
	if m.there(file) && m.there(keyFile) {
		cert, err := m.readCertificate(file)
		if err != nil {
			return err
		}
		if cert.NotAfter.Sub(m.Now()) > renewBefore {
			m.Say("kept", file)
			return nil
		}
		what = "renewed"
	}
	if m.authority.key == nil {
		return errors.New("ca.key is missing: put it back to have a certificate signed")
	}
	cert, private, err := m.issue(server)
	if err != nil {
		return err
	}
	// The key first: a server that reads them in between goes on with the old pair.
	if err := errors.Join(m.replace(keyFile, private, fileMode), m.replace(file, cert, fileMode)); err != nil {
		return err
	}
	m.Say(what, file)
	return nil
}

func (m *maker) issue(server string) (cert, private string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: server}, SerialNumber: serial(),
		NotBefore: m.Now().Add(-day), NotAfter: m.Now().Add(m.Valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: append([]string{"localhost"}, servers[server]...),
	}
	if server != "postgres" {
		// Servers of a cluster show it to each other.
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, host := range m.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	signed, err := m.sign(template, &key.PublicKey)
	if err != nil {
		return "", "", err
	}
	private, err = privateText(key)
	return certificateText(signed), private, err
}

func (m *maker) sign(template *x509.Certificate, public *ecdsa.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, m.authority.cert, public, m.authority.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

func certificateText(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func privateText(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}
