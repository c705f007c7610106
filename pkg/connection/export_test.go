package connection

import (
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// SetSaveFor shortens how long storing a new token is tried.
func (s *Store) SetSaveFor(d time.Duration) { s.saveFor = d }

// SetOwnClock gives the process another clock. Redis keeps its own.
func (s *Store) SetOwnClock(now func() time.Time) {
	s.clock, s.own = state.NewSharedClock(now), now
	s.now, s.stamp = s.clock.Now, s.state.ClockArg
}

// RefreshOnEvery401 lifts the bound on refreshes that a 401 causes.
func (s *Store) RefreshOnEvery401() { s.rejectWindow = 0 }

// Landing is a refresh whose token is in Redis, but that does not know so yet. land ends it.
func (s *Store) Landing(realm string, access secret.String) (land func()) {
	landed := make(chan struct{})
	done := s.flights.DoChan(realm, func() (any, error) {
		<-landed
		return flight{token: access}, nil
	})
	s.keepUnsaved(realm, answer{token: stored{Token: qbo.Token{Access: access}}})
	return func() {
		s.saved(realm)
		close(landed)
		<-done
	}
}
