package qbosim

import (
	"fmt"
	"time"
)

const (
	replicas = 3
	// lagCalls is how many calls the replicas keep their lags for.
	lagCalls = 16
)

// lag is how far behind the writes the n-th call is answered: by the lag of all
// replicas and that of the one that is drawn.
func (s *Sim) lag(n uint64, f *activeFaults) time.Duration {
	if f.ReplicaLag == 0 {
		return f.ReadLag
	}
	replica := s.draw("replica", count(n)).IntN(replicas)
	rng := s.draw("replica lag", fmt.Sprint(replica), count(n/lagCalls))
	if chance(rng, 1.0/replicas) {
		return f.ReadLag // up to date for once
	}
	return f.ReadLag + time.Duration(rng.Int64N(int64(f.ReplicaLag)+1))
}

// asOf is the time whose states the call shows.
func (c *call) asOf(now time.Time) time.Time { return now.Add(-c.lag) }
