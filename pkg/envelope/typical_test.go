package envelope_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const verifierToken = secret.String("b5771f19b12ddb4bcdb9f08bdc50bc63878a")

var verifier = webhook.NewVerifier([]secret.String{verifierToken})

// typical is a body of n events over two realms as Intuit sends it, 308 bytes an
// event.
func typical(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `%c{"specversion":"1.0","id":"88cd52aa-33b6-4351-9aa4-47572edb%04d","source":"intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",`+
			`"datacontenttype":"application/json","time":"2026-11-23T10:20:29.179851517Z","type":"qbo.invoice.updated.v1",`+
			`"intuitentityid":"%d","intuitaccountid":"934145300000000%d","data":{}}`, "[,"[min(i, 1)], i, 1000+i, i%2)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// receive is all that a request costs before the stream: verify, parse, make the
// envelopes and encode them.
func receive(t testing.TB, body []byte, signature string) (encoded int) {
	if _, err := verifier.Verify(body, signature); err != nil {
		t.Fatal(err)
	}
	n, err := webhook.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range envelope.FromNotification(body, n, meta()) {
		b, err := envelope.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		encoded += len(b)
	}
	return encoded
}

func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("events=", n), func(b *testing.B) {
			body := typical(n)
			signature := webhook.Sign(body, verifierToken)
			require.NotZero(b, receive(b, body, signature))
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				receive(b, body, signature)
			}
		})
	}
}
