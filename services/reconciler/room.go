package reconciler

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// room is the memory of one page of a reading. All readings of a process share what
// [ReconcilerConfig.Realms] pages of the largest size need, so that many large loads at
// a time wait for each other.
type room struct {
	s        *scan
	expected int64 // bytes of the next page; PageLimit until one was read
	taken    int64
}

func newRooms(realms int) *semaphore.Weighted {
	return semaphore.NewWeighted(int64(max(realms, 1)) * PageLimit)
}

// enter waits for the memory of a page. leave gives it back, and may be called again.
func (r *room) enter(ctx context.Context) error {
	if err := r.s.r.rooms.Acquire(ctx, r.expected); err != nil {
		return err
	}
	r.taken = r.expected
	return nil
}

func (r *room) leave() {
	r.s.r.rooms.Release(r.taken)
	r.taken = 0
}

// met learns how large pages are.
func (r *room) met(res qbo.QueryResult) {
	if n := size(res); n > 0 {
		r.expected = min(PageLimit, max(2*n, PageLimit/64))
	}
}
