package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// SignatureHeader is the request header that carries the signature.
const SignatureHeader = "Intuit-Signature"

var (
	// ErrNoSignature says that the request carried no signature at all.
	ErrNoSignature = errors.New("no signature")
	// ErrSignature says that the signature fits the body under none of the tokens.
	ErrSignature = errors.New("signature does not match")
)

// Verify checks that signature, the value of the intuit-signature header, was
// made over body with one of the tokens, and returns that token's index (the
// lowest, should a token be listed twice), or -1 and an error.
//
// body must be the bytes as received: parsing and marshalling again breaks the
// signature. Several tokens are for a change of tokens and for several apps on
// one endpoint. All of them are tried, always, so that the time taken says
// nothing about which one fits. An empty token never fits: anybody can sign with it.
func Verify(body []byte, signature string, tokens []secret.String) (index int, err error) {
	signature = strings.TrimSpace(signature)
	if signature == "" {
		return -1, ErrNoSignature
	}
	given, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(given) != sha256.Size {
		return -1, fmt.Errorf("%w: not base64 of %d bytes", ErrSignature, sha256.Size)
	}
	found := -1
	for i := len(tokens) - 1; i >= 0; i-- {
		fits := subtle.ConstantTimeCompare(given, mac(body, tokens[i]))
		if tokens[i] == "" {
			fits = 0
		}
		found = subtle.ConstantTimeSelect(fits, i, found)
	}
	if found < 0 {
		return -1, ErrSignature
	}
	return found, nil
}

// Sign returns the signature Intuit would send with body under the token.
func Sign(body []byte, token secret.String) string {
	return base64.StdEncoding.EncodeToString(mac(body, token))
}

func mac(body []byte, token secret.String) []byte {
	h := hmac.New(sha256.New, []byte(token.Reveal()))
	h.Write(body)
	return h.Sum(nil)
}
