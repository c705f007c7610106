// Package certificatetest makes certificate authorities and what they sign, for
// tests: a root, an intermediate, and leaves for 127.0.0.1.
//
// Nothing of it is kept. It is for tests only.
package certificatetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a root and the intermediate that signs the leaves.
type Authority struct {
	t                  testing.TB
	root, intermediate *signer
	serial             int64
}

type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is a certificate with its key, in files as a server reads them.
type Leaf struct {
	Cert     *x509.Certificate
	CertFile string // with the chain it was asked for
	KeyFile  string
	Chain    []*x509.Certificate // what CertFile holds
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	a.root = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test root"}, IsCA: true}, nil, time.Now().Add(-10_000*time.Hour), time.Now().Add(10_000*time.Hour))
	a.intermediate = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test intermediate"}, IsCA: true}, a.root, time.Now().Add(-10_000*time.Hour), time.Now().Add(10_000*time.Hour))
	return a
}

// Roots is the pool with the root.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root.cert)
	return pool
}

// RootFile is a file with the root.
func (a *Authority) RootFile() string {
	a.t.Helper()
	file := filepath.Join(a.t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.cert.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// Leaf makes a leaf with its intermediate behind it.
func (a *Authority) Leaf(from, to time.Time) Leaf {
	a.t.Helper()
	s := a.leaf(a.intermediate, from, to)
	return a.write(s, s.cert, a.intermediate.cert)
}

// Incomplete makes a leaf without its intermediate.
func (a *Authority) Incomplete(from, to time.Time) Leaf {
	a.t.Helper()
	s := a.leaf(a.intermediate, from, to)
	return a.write(s, s.cert)
}

// Whole makes a leaf with its intermediate and the root behind it.
func (a *Authority) Whole(from, to time.Time) Leaf {
	a.t.Helper()
	s := a.leaf(a.intermediate, from, to)
	return a.write(s, s.cert, a.intermediate.cert, a.root.cert)
}

// Lapsed makes a leaf whose intermediate has expired.
func (a *Authority) Lapsed(from, to time.Time) Leaf {
	a.t.Helper()
	by := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "lapsed intermediate"}, IsCA: true}, a.root, time.Now().Add(-10_000*time.Hour), time.Now().Add(-time.Hour))
	s := a.leaf(by, from, to)
	return a.write(s, s.cert, by.cert)
}

// SelfSigned makes a leaf that nobody else has signed.
func (a *Authority) SelfSigned(from, to time.Time) Leaf {
	a.t.Helper()
	s := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "self"}}, nil, from, to)
	return a.write(s, s.cert)
}

func (a *Authority) leaf(by *signer, from, to time.Time) *signer {
	a.t.Helper()
	return a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, IssuingCertificateURL: []string{"http://127.0.0.1/issuer.crt"}}, by, from, to)
}

func (a *Authority) sign(c *x509.Certificate, by *signer, from, to time.Time) *signer {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	c.SerialNumber, c.NotBefore, c.NotAfter, c.BasicConstraintsValid = big.NewInt(a.serial), from, to, true
	if c.IsCA {
		c.KeyUsage = x509.KeyUsageCertSign
	} else {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	}
	parent, parentKey := c, key
	if by != nil {
		parent, parentKey = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return &signer{cert, key}
}

func (a *Authority) write(s *signer, chain ...*x509.Certificate) Leaf {
	a.t.Helper()
	dir := a.t.TempDir()
	l := Leaf{Cert: s.cert, Chain: chain, CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	var certs []byte
	for _, c := range chain {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, text := range map[string][]byte{l.CertFile: certs, l.KeyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return l
}

// Install writes the leaf over another's files, as a renewal does.
func (l Leaf) Install(t testing.TB, over Leaf) {
	t.Helper()
	for from, to := range map[string]string{l.CertFile: over.CertFile, l.KeyFile: over.KeyFile} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
