package reconciler

// recent remembers the versions of the last records that were read: pages overlap, by
// less than this. It forgets the older half when it is full.
type recent struct{ now, before map[string]int64 }

const recentHalf = 4 * maxRows

func newRecent() *recent { return &recent{now: map[string]int64{}} }

// has reports whether that version or a later one of the record was read of late.
func (r *recent) has(id string, version int64) bool {
	seen, ok := r.now[id]
	if !ok {
		seen, ok = r.before[id]
	}
	return ok && seen >= version
}

func (r *recent) add(id string, version int64) {
	if len(r.now) >= recentHalf {
		r.now, r.before = map[string]int64{}, r.now
	}
	r.now[id] = version
}

// each calls visit with all it remembers.
func (r *recent) each(visit func(id string)) {
	for _, half := range []map[string]int64{r.now, r.before} {
		for id := range half {
			visit(id)
		}
	}
}
