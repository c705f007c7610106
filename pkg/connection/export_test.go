package connection

import "time"

// SetSaveFor shortens how long storing a new token is tried.
func (s *Store) SetSaveFor(d time.Duration) { s.saveFor = d }
