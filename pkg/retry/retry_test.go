package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
)

var errAway = errors.New("away")

func TestDo_PausesDoubleUpToTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at, told []time.Duration
		begun := time.Now()
		p := retry.Policy{First: time.Second, Most: 3 * time.Second, Tries: 5, Notify: func(err error, pause time.Duration) {
			require.Equal(t, errAway, err)
			told = append(told, pause)
		}}
		err := p.Do(t.Context(), func() error { at = append(at, time.Since(begun)); return errAway })
		require.Equal(t, errAway, err)
		require.Empty(t, cmp.Diff([]time.Duration{0, time.Second, 3 * time.Second, 6 * time.Second, 9 * time.Second}, at))
		require.Empty(t, cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}, told))
	})
}

func TestDo_JitterTakesHalfOffAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			whole := time.Second
			p := retry.Calls(12, nil)
			p.Notify = func(_ error, pause time.Duration) {
				require.GreaterOrEqual(t, pause, whole/2-time.Microsecond)
				require.LessOrEqual(t, pause, whole+time.Microsecond)
				whole = min(2*whole, 5*time.Minute)
			}
			require.Equal(t, errAway, p.Do(t.Context(), func() error { return errAway }))
		}
	})
}

func TestDo_EndsWhen(t *testing.T) {
	for _, tc := range []struct {
		name  string
		p     retry.Policy
		fails []error
		want  error
		tries int
	}{
		{"it succeeds", retry.Policy{}, nil, nil, 1},
		{"it succeeds at last", retry.Policy{}, []error{errAway, errAway}, nil, 3},
		{"the error stays", retry.Policy{Temporary: retry.If(errAway)}, []error{fmt.Errorf("read: %w", errAway), context.Canceled, errAway}, context.Canceled, 2},
		{"the tries are over", retry.Policy{Tries: 2}, []error{errAway, errAway, errAway}, errAway, 2},
		{"the last try succeeds", retry.Policy{Tries: 3, Temporary: retry.If(errAway)}, []error{errAway, errAway}, nil, 3},
		{"the last try fails for good", retry.Policy{Tries: 1, Temporary: retry.If(errAway)}, []error{context.Canceled}, context.Canceled, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				tc.p.First = time.Second
				err := tc.p.Do(t.Context(), func() error {
					if tries++; tries > len(tc.fails) {
						return nil
					}
					return tc.fails[tries-1]
				})
				require.Equal(t, tc.want, err, "as it is, not wrapped")
				require.Equal(t, tc.tries, tries)
			})
		})
	}
}

// The cause of a context is the failure of somebody else: it is not reported as this one's.
func TestDo_EndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2500*time.Millisecond, func() { cancel(errors.New("another part failed")) })
		p, begun, tries := retry.Policy{First: time.Second}, time.Now(), 0
		work := func() error { tries++; return errAway }
		require.Equal(t, context.Canceled, p.Do(ctx, work))
		require.Equal(t, 2500*time.Millisecond, time.Since(begun), "in the midst of a pause")
		require.Equal(t, 2, tries)
		require.Equal(t, context.Canceled, p.Do(ctx, work))
		require.Equal(t, 3, tries)
	})
}
