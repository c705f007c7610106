// Package certificate judges a server's certificate as Intuit's webhook sender
// does: it must reach a public authority by the certificates that the server
// itself sends.
//
// It reports every problem it sees, in words for the person who has to mend it.
// It does not fetch what is missing, as a browser may, since Intuit does not; and
// it asks no authority whether a certificate was revoked.
package certificate

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Kind is what is wrong, in one word.
type Kind string

// The kinds. Incomplete: a certificate on the way to the authority is missing.
// Private: the whole way is there, and the authority is not a public one.
// Unjudged: this machine does not know the public authorities.
const (
	SelfSigned Kind = "self-signed"
	Incomplete Kind = "incomplete"
	Private    Kind = "private"
	Expired    Kind = "expired"
	Expiring   Kind = "expiring"
	NotYet     Kind = "not-yet-valid"
	Invalid    Kind = "invalid"
	Unjudged   Kind = "unjudged"
)

// expiringWithin is when a certificate that is still valid is reported.
const expiringWithin = 21 * 24 * time.Hour

// Problem is one thing that is wrong with a chain.
type Problem struct {
	Kind Kind
	// Text says what to do, in one line.
	Text string
}

// Refused reports whether Intuit refuses the certificate for it today, or may.
func (p Problem) Refused() bool { return p.Kind != Expiring }

// Check judges a chain, the server's own certificate first, as it is sent. nil
// roots are the system's. now is when. An empty result means that nothing is wrong.
// Sources: Intuit's webhook page wants the full chain with its intermediates and
// refuses self-signed certificates.
func Check(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) []Problem {
	if len(chain) == 0 {
		return []Problem{{Invalid, "there is no certificate"}}
	}
	leaf := chain[0]
	problems := dates("the certificate", leaf, now)
	if selfSigned(leaf) {
		return append(problems, Problem{SelfSigned, "the certificate is self-signed, which Intuit refuses: get one from a public authority"})
	}
	if roots == nil {
		roots = systemRoots()
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// At a moment when the leaf is valid: its dates are reported already.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: within(leaf, now), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return problems
	case roots.Equal(x509.NewCertPool()):
		return append(problems, Problem{Unjudged, "the chain cannot be judged: this machine has no list of public authorities (ca-certificates)"})
	case errors.As(err, &unknown), errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return append(problems, unreached(chain, now)...)
	default:
		return append(problems, Problem{Invalid, "the chain is not valid for a server: " + err.Error()})
	}
}

// systemRoots are empty where there are none.
func systemRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return pool
}

// unreached says why a chain reaches no authority that is known.
func unreached(chain []*x509.Certificate, now time.Time) []Problem {
	last := chain[0]
	for range chain {
		issuer := issuerOf(last, chain)
		if issuer == nil {
			break
		}
		if old := dates(fmt.Sprintf("the intermediate certificate %q", issuer.Subject), issuer, now); len(old) > 0 && old[0].Refused() {
			return old
		}
		last = issuer
	}
	if selfSigned(last) {
		return []Problem{{Private, fmt.Sprintf("the authority %q is not a public one, and Intuit refuses what it does not know: "+
			"get a certificate from a public authority", last.Subject)}}
	}
	where := ""
	if len(last.IssuingCertificateURL) > 0 {
		where = ", from " + last.IssuingCertificateURL[0]
	}
	return []Problem{{Incomplete, fmt.Sprintf("the chain does not reach a public authority, which Intuit refuses: "+
		"append the certificate of %q to the file%s, and if that is no public authority get a certificate from one", last.Issuer, where)}}
}

// issuerOf finds who signed c, in a chain of any order.
func issuerOf(c *x509.Certificate, chain []*x509.Certificate) *x509.Certificate {
	if selfSigned(c) {
		return nil
	}
	for _, issuer := range chain {
		if bytes.Equal(c.RawIssuer, issuer.RawSubject) && c.CheckSignatureFrom(issuer) == nil {
			return issuer
		}
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func dates(name string, c *x509.Certificate, now time.Time) []Problem {
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch {
	case now.Before(c.NotBefore):
		return []Problem{{NotYet, name + " is valid only from " + day(c.NotBefore) + ": check the clock"}}
	case now.After(c.NotAfter):
		return []Problem{{Expired, name + " expired on " + day(c.NotAfter) + ": renew it"}}
	case now.Add(expiringWithin).After(c.NotAfter):
		return []Problem{{Expiring, name + " expires on " + day(c.NotAfter) + ": renew it"}}
	}
	return nil
}

// within is now, or the moment of the leaf's validity that is nearest to it.
func within(leaf *x509.Certificate, now time.Time) time.Time {
	if now.Before(leaf.NotBefore) {
		return leaf.NotBefore
	}
	if now.After(leaf.NotAfter) {
		return leaf.NotAfter
	}
	return now
}
