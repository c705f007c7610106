package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// SignatureHeader is the request header that carries the signature.
const SignatureHeader = "Intuit-Signature"

var (
	// ErrNoSignature says that the request carried no signature at all.
	ErrNoSignature = errors.New("no signature")
	// ErrSignature says that the signature fits the body under none of the tokens.
	ErrSignature = errors.New("signature does not match")

	errNotBase64 = fmt.Errorf("%w: not base64 of %d bytes", ErrSignature, sha256.Size)
)

// Verifier checks signatures made with one of its tokens. Several goroutines may
// use it at a time. The zero value and nil refuse every signature.
//
// The keyed hashes are kept from one body to the next: to make them costs as
// much as to hash a small body.
type Verifier struct {
	tokens int
	checks sync.Pool // of *check
}

// check is what one verification works with.
type check struct {
	macs   []hash.Hash // one for each token; nil for an empty one
	header []byte
	given  []byte // the header, decoded
	made   []byte
}

// NewVerifier returns a verifier for tokens, which it copies. Other tokens need
// another verifier.
func NewVerifier(tokens []secret.String) *Verifier {
	tokens = slices.Clone(tokens)
	v := &Verifier{tokens: len(tokens)}
	v.checks.New = func() any {
		c := &check{macs: make([]hash.Hash, len(tokens))}
		for i, token := range tokens {
			if token != "" {
				c.macs[i] = hmac.New(sha256.New, []byte(token.Reveal()))
			}
		}
		return c
	}
	return v
}

// Verify checks that signature, the value of the intuit-signature header, was
// made over body with one of the tokens, and returns that token's index (the
// lowest, should a token be listed twice), or -1 and an error.
//
// body must be the bytes as received: parsing and marshalling again breaks the
// signature. Several tokens are for a change of tokens and for several apps on
// one endpoint. All of them are tried, always, so that the time taken says
// nothing about which one fits. An empty token never fits: anybody can sign with it.
func (v *Verifier) Verify(body []byte, signature string) (index int, err error) {
	signature = strings.TrimSpace(signature)
	if signature == "" {
		return -1, ErrNoSignature
	}
	if v == nil || v.tokens == 0 {
		return -1, ErrSignature
	}
	c := v.checks.Get().(*check)
	defer v.checks.Put(c)
	c.header = append(c.header[:0], signature...)
	c.given, err = base64.StdEncoding.AppendDecode(c.given[:0], c.header)
	if err != nil || len(c.given) != sha256.Size {
		return -1, errNotBase64
	}
	return c.compare(body)
}

// compare finds the token under which body has the given signature.
func (c *check) compare(body []byte) (index int, err error) {
	index = -1
	for i, mac := range slices.Backward(c.macs) {
		if mac == nil {
			continue
		}
		mac.Reset()
		mac.Write(body)
		c.made = mac.Sum(c.made[:0])
		index = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(c.given, c.made), i, index)
	}
	if index < 0 {
		return -1, ErrSignature
	}
	return index, nil
}

// Verify is NewVerifier(tokens).Verify: for one body only.
func Verify(body []byte, signature string, tokens []secret.String) (index int, err error) {
	return NewVerifier(tokens).Verify(body, signature)
}

// Sign returns the signature Intuit would send with body under the token.
func Sign(body []byte, token secret.String) string {
	h := hmac.New(sha256.New, []byte(token.Reveal()))
	h.Write(body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
