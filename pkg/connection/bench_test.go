package connection_test

import (
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// What each API call pays for its token: a read and a decryption.
func BenchmarkToken(b *testing.B) {
	bundle := setup(b, devtest.RealRedis(b))
	s := bundle.replica()
	bundle.connect(s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Token(b.Context(), realm); err != nil {
			b.Fatal(err)
		}
	}
}

// What each message pays to know that its realm is connected.
func BenchmarkKnown(b *testing.B) {
	bundle := setup(b, devtest.RealRedis(b))
	s := bundle.replica()
	bundle.connect(s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Known(b.Context(), realm); err != nil {
			b.Fatal(err)
		}
	}
}
