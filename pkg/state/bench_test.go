package state_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func BenchmarkMarks(b *testing.B) {
	s := open(b, at(devtest.RealRedis(b)))
	for _, n := range []int{1, 20, 500} {
		as := advances(n)
		refs := make([]state.Ref, n)
		for i := range refs {
			refs[i] = as[i].Ref
		}
		require.NoError(b, s.Advance(b.Context(), "9", "pg", as))
		b.Run(fmt.Sprint("refs=", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Marks(b.Context(), "9", "pg", refs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAdvance(b *testing.B) {
	s := open(b, at(devtest.RealRedis(b)))
	for _, n := range []int{1, 20, 500} {
		as := advances(n)
		b.Run(fmt.Sprint("refs=", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range as {
					as[i].Version++
				}
				if err := s.Advance(b.Context(), "9", "pg", as); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func advances(n int) []state.Advance {
	as := make([]state.Advance, n)
	for i := range as {
		entity := []string{"Invoice", "Customer", "Payment"}[i%3]
		as[i] = state.Advance{Ref: state.Ref{Entity: entity, ID: strconv.Itoa(i)}, Version: 1e15, Covered: noon}
	}
	return as
}

// One call of Intuit costs Redis two round trips: this and its release.
func BenchmarkAcquire(b *testing.B) {
	l := open(b, at(devtest.RealRedis(b))).Limiter(state.LimitConfig{PerMinute: 6e9, Burst: 1000, Hold: time.Minute})
	b.ReportAllocs()
	for b.Loop() {
		release, err := l.Acquire(b.Context(), "9", qbo.Live)
		if err != nil {
			b.Fatal(err)
		}
		release()
	}
}

func BenchmarkLiveIDs(b *testing.B) {
	s := open(b, at(devtest.RealRedis(b)))
	as := advances(30000)
	require.NoError(b, s.Advance(b.Context(), "9", "pg", as))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.LiveIDs(b.Context(), "9", "pg", "Invoice"); err != nil {
			b.Fatal(err)
		}
	}
}
