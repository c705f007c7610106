package bench_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A contender that answers 200 and forgets is found out, also when it is
// measured after an honest one on the same stream.
func TestRun_CountsWhatWasAnsweredAndNotStored(t *testing.T) {
	p := &profile{bench: &bench{t: t}, name: relaxed, broker: startBroker(t, relaxed)}
	var forgotten atomic.Int64
	server := func(store func(n int64) int) *contender {
		var n atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			for range store(n.Add(1)) {
				_, err := p.broker.js.Publish(t.Context(), "lf.event.00.realm", []byte("x"))
				require.NoError(t, err)
			}
		}))
		t.Cleanup(s.Close)
		return &contender{child: &child{says: []string{s.Listener.Addr().String()}}, take: p.broker.messages(eventStream), each: realms}
	}
	honest := server(func(int64) int { return realms })
	forgetful := server(func(n int64) int {
		if n%5 == 0 {
			forgotten.Add(1)
			return realms - 1
		}
		return realms
	})
	p.run(honest, 100, 4, 200*time.Millisecond)
	p.run(forgetful, 100, 4, 200*time.Millisecond)
	require.Equal(t, [3]int64{20, 20 * realms, 0}, [3]int64{honest.answered, honest.stored, honest.lost})
	require.EqualValues(t, 20, forgetful.answered)
	require.Equal(t, forgotten.Load(), forgetful.lost)
	require.EqualValues(t, 4, forgetful.lost)
}
