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

// The kinds. Incomplete: an intermediate is missing, or the authority is not a
// public one.
const (
	SelfSigned Kind = "self-signed"
	Incomplete Kind = "incomplete"
	Expired    Kind = "expired"
	Expiring   Kind = "expiring"
	NotYet     Kind = "not-yet-valid"
	Invalid    Kind = "invalid"
)

// expiringWithin is when a certificate that is still valid is reported.
const expiringWithin = 21 * 24 * time.Hour

// Problem is one thing that is wrong with a chain.
type Problem struct {
	Kind Kind
	// Text says what to do, in one line.
	Text string
}

// Refused reports whether Intuit refuses the certificate for it today.
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
	problems := dates(leaf, now)
	if selfSigned(leaf) {
		return append(problems, Problem{SelfSigned, "the certificate is self-signed, which Intuit refuses: get one from a public authority"})
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
	switch {
	case err == nil:
	case errors.As(err, &unknown):
		problems = append(problems, Problem{Incomplete, fmt.Sprintf("the chain does not reach a public authority, which Intuit refuses: "+
			"append the intermediate certificates to the file (the last one in it was issued by %q)", chain[len(chain)-1].Issuer.CommonName)})
	default:
		problems = append(problems, Problem{Invalid, "the chain is not valid for a server: " + err.Error()})
	}
	return problems
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func dates(leaf *x509.Certificate, now time.Time) []Problem {
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch {
	case now.Before(leaf.NotBefore):
		return []Problem{{NotYet, "the certificate is valid only from " + day(leaf.NotBefore) + ": check the clock"}}
	case now.After(leaf.NotAfter):
		return []Problem{{Expired, "the certificate expired on " + day(leaf.NotAfter) + ": renew it"}}
	case now.Add(expiringWithin).After(leaf.NotAfter):
		return []Problem{{Expiring, "the certificate expires on " + day(leaf.NotAfter) + ": renew it"}}
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
