package qbosim

import (
	"sync"
	"time"
)

// meter counts the calls of a realm, and refuses what is over the limits.
// Refused calls use nothing up, but count in the maxima: a client that keeps
// to the limits never has one.
type meter struct {
	mu            sync.Mutex // guards the rest
	attempts      window
	accepted      window
	batches       window
	inFlight      int
	calls         int
	kinds         map[string]int
	throttled     int
	refusedCalls  int            // of every kind
	refusedNames  map[string]int // of an entity, by its name and kind
	maxPerMinute  int
	maxConcurrent int
}

// window holds the times of the last 60 seconds.
type window []time.Time

func (w *window) forget(now time.Time) int {
	old := 0
	for old < len(*w) {
		// A time in the future is from before the clock was put back.
		if age := now.Sub((*w)[old]); age >= 0 && age < time.Minute {
			break
		}
		old++
	}
	*w = (*w)[old:]
	return len(*w)
}

// enter counts a call in. The caller leaves in any case.
func (m *meter) enter(kind string, now time.Time, limits Limits) (ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.kinds == nil {
		m.kinds = map[string]int{}
	}
	m.kinds[kind]++
	m.inFlight++
	m.maxConcurrent = max(m.maxConcurrent, m.inFlight)
	m.maxPerMinute = max(m.maxPerMinute, m.attempts.forget(now)+1)
	m.attempts = append(m.attempts, now)
	over := m.inFlight > limits.Concurrent || m.accepted.forget(now) >= limits.PerMinute
	if kind == kindBatch {
		over = over || m.batches.forget(now) >= limits.BatchPerMinute
	}
	if over {
		return false
	}
	m.accepted = append(m.accepted, now)
	if kind == kindBatch {
		m.batches = append(m.batches, now)
	}
	return true
}

func (m *meter) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight--
}

func (m *meter) refused() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.throttled++
}

func (m *meter) failed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusedCalls++
}

func (m *meter) refusedEntity(name, kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusedNames == nil {
		m.refusedNames = map[string]int{}
	}
	m.refusedNames[name+"/"+kind]++
}

func (m *meter) addTo(st *Stats, realm string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st.Calls += m.calls
	if m.calls > 0 {
		st.CallsByRealm[realm] = m.calls
	}
	for kind, n := range m.kinds {
		st.CallsByKind[kind] += n
	}
	st.Throttled += m.throttled
	st.Refused += m.refusedCalls
	for name, n := range m.refusedNames {
		st.RefusedEntities[realm+"/"+name] = n
	}
	st.MaxPerMinute = max(st.MaxPerMinute, m.maxPerMinute)
	st.MaxConcurrent = max(st.MaxConcurrent, m.maxConcurrent)
}
