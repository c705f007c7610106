package processor

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

const (
	// maxRefusals bounds the records that are remembered, some 200 bytes each.
	maxRefusals = 32 << 10
	// refusalLife: a record that was not refused for so long begins anew.
	refusalLife = time.Hour
)

// refusals remember how often and since when records were refused. The deliveries of a
// message do not tell: it is also redelivered while Redis is away, say. A replica that
// has just started remembers nothing, and retries for as long again.
type refusals struct {
	mu      sync.Mutex // guards read and write of an entry together
	records *lru.Cache[refusedRecord, refusal]
}

type refusedRecord struct {
	realm string
	state.Ref
}

// refusal is what is remembered of a record: responses of one meaning.
type refusal struct {
	meaning     qbo.Meaning
	first, last time.Time
	times       int
}

func newRefusals() (*refusals, error) {
	records, err := lru.New[refusedRecord, refusal](maxRefusals)
	return &refusals{records: records}, err
}

// note counts a refusal and returns what is known of the record now.
func (r *refusals) note(realm string, ref state.Ref, meaning qbo.Meaning, now time.Time) refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusedRecord{realm, ref}
	past, ok := r.records.Get(key)
	if !ok || past.meaning != meaning || now.Sub(past.last) > refusalLife {
		past = refusal{meaning: meaning, first: now}
	}
	past.last = now
	past.times++
	r.records.Add(key, past)
	return past
}

// poison reports whether the record was named as poison and not read since.
func (r *refusals) poison(realm string, ref state.Ref) bool {
	if r.records.Len() == 0 {
		return false
	}
	past, ok := r.records.Get(refusedRecord{realm, ref})
	return ok && past.meaning == qbo.MeaningPoison && time.Since(past.last) <= refusalLife
}

// forget is for a record that was read, or given up.
func (r *refusals) forget(realm string, ref state.Ref) {
	if r.records.Len() > 0 {
		r.records.Remove(refusedRecord{realm, ref})
	}
}
