package connection

import "time"

// SetSaveFor shortens how long storing a new token is tried.
func (s *Store) SetSaveFor(d time.Duration) { s.saveFor = d }

// RefreshOnEvery401 lifts the bound on refreshes that a 401 causes.
func (s *Store) RefreshOnEvery401() { s.rejectWindow = 0 }
