package load

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

// template is a body whose ids are written anew for each request: made and
// signed in some microseconds, since the generator shares the machine with what
// it measures. One belongs to one goroutine.
type template struct {
	body      []byte
	run       []int // where the run and request number stand, 16 hex digits each
	signer    hash.Hash
	signature [44]byte
	sum       []byte
}

// placeholder stands for the 16 hex digits that tell one request from another.
const placeholder = "ffffffffffffffff"

func newTemplate(o Options) *template {
	text := cloudEvents(o)
	if o.Format == webhook.Legacy {
		text = legacy(o)
	}
	t := &template{body: []byte(text), signer: hmac.New(sha256.New, []byte(o.Token.Reveal()))}
	for at := strings.Index(text, placeholder); at >= 0; {
		t.run = append(t.run, at)
		next := strings.Index(text[at+len(placeholder):], placeholder)
		if next < 0 {
			break
		}
		at += len(placeholder) + next
	}
	return t
}

// realm is a company id as Intuit's look.
func realm(o Options, i int) string {
	return fmt.Sprintf("93414%05d%06d", o.Seed%100_000, i%o.Realms)
}

func cloudEvents(o Options) string {
	var b strings.Builder
	for i := range o.Events {
		b.WriteByte("[,"[min(i, 1)])
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"%s-%04x","source":"intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=","type":"qbo.invoice.updated.v1",`+
			`"datacontenttype":"application/json","time":"2026-03-17T13:00:00.123456789Z","intuitentityid":"%d","intuitaccountid":"%s","data":{}}`,
			placeholder, i, 100_000+i, realm(o, i))
	}
	return b.String() + "]"
}

func legacy(o Options) string {
	var b strings.Builder
	b.WriteString(`{"eventNotifications":[`)
	for r := range o.Realms {
		fmt.Fprintf(&b, `%s{"realmId":"%s","dataChangeEvent":{"entities":[`, ","[:min(r, 1)], realm(o, r))
		for i := r; i < o.Events; i += o.Realms {
			fmt.Fprintf(&b, `%s{"name":"Invoice","id":"%s%d","operation":"Update","lastUpdated":"2026-03-17T13:00:00.000Z"}`, ","[:min(i/o.Realms, 1)], placeholder, 100_000+i)
		}
		b.WriteString("]}}")
	}
	return b.String() + "]}"
}

// next returns the body of request number n and its signature; both are valid
// until the next call.
func (t *template) next(n uint64) (body []byte, signature []byte) {
	var digits [16]byte
	const hexDigits = "0123456789abcdef"
	for i := range digits {
		digits[len(digits)-1-i] = hexDigits[n>>(4*i)&15]
	}
	for _, at := range t.run {
		copy(t.body[at:], digits[:])
	}
	t.signer.Reset()
	t.signer.Write(t.body)
	t.sum = t.signer.Sum(t.sum[:0])
	base64.StdEncoding.Encode(t.signature[:], t.sum)
	return t.body, t.signature[:]
}

// firstNumber makes the request numbers of two runs different.
func firstNumber() uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n << 32
}
