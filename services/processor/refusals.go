package processor

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// maxRefusals bounds the records that are remembered, some 200 bytes each.
	maxRefusals = 32 << 10
	// refusalLife: a record that was not refused for so long begins anew.
	refusalLife = time.Hour
)

// refusals remember how often and since when records were refused. The deliveries of a
// message do not tell: it is also redelivered while Redis is away, say. What may become a
// dead letter is kept in Redis as well, so that a replica that has just started goes on
// with the time and the responses of the one before it.
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

// learn takes over what another replica, or this one before a restart, has noted of
// responses of this meaning.
func (r *refusals) learn(realm string, of state.RecordRefusal, meaning qbo.Meaning, now time.Time) {
	if of.Times == 0 || of.Meaning != meaning.String() || now.Sub(of.Last) > refusalLife {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusedRecord{realm, of.Ref}
	all := refusal{meaning: meaning, first: of.First, last: of.Last, times: of.Times}
	if past, ok := r.records.Get(key); ok && past.meaning == meaning && now.Sub(past.last) <= refusalLife {
		if past.first.Before(all.first) {
			all.first = past.first
		}
		all.times = max(all.times, past.times)
	}
	r.records.Add(key, all)
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
func (r *refusals) poison(realm string, ref state.Ref, now time.Time) bool {
	if r.records.Len() == 0 {
		return false
	}
	past, ok := r.records.Get(refusedRecord{realm, ref})
	return ok && past.meaning == qbo.MeaningPoison && now.Sub(past.last) <= refusalLife
}

// forget is for a record that was read, or given up. It reports whether it was known.
func (r *refusals) forget(realm string, ref state.Ref) bool {
	return r.records.Len() > 0 && r.records.Remove(refusedRecord{realm, ref})
}

// noteRefused counts a refusal of each of the items and returns what is known of them now.
// While Redis does not answer it is what this process knows.
func (r *reader) noteRefused(ctx context.Context, items []*item, meaning qbo.Meaning) []refusal {
	refs, now := make([]state.Ref, len(items)), r.p.now()
	for i, it := range items {
		refs[i] = it.ref
	}
	before, err := r.p.state.RecordRefusals(ctx, r.realm, refs)
	for _, one := range before {
		r.p.refusals.learn(r.realm, one, meaning, now)
	}
	noted, kept := make([]refusal, len(items)), make([]state.RecordRefusal, len(items))
	for i, ref := range refs {
		n := r.p.refusals.note(r.realm, ref, meaning, now)
		noted[i] = n
		kept[i] = state.RecordRefusal{Ref: ref, Meaning: n.meaning.String(), First: n.first, Last: n.last, Times: n.times}
	}
	if err == nil {
		err = r.p.state.KeepRecordRefusals(ctx, r.realm, kept)
	}
	if err != nil {
		r.p.log.Debug("record refusals not saved", telemetry.Realm(r.realm), telemetry.Error(err))
	}
	return noted
}

// notRefused is for an item that was read, or given up: the next refusal is its first.
func (r *reader) notRefused(it *item) {
	if r.p.refusals.forget(r.realm, it.ref) || it.tries() > 1 {
		r.over = append(r.over, it.ref)
	}
}

// endRefusals removes what Redis has of the records that are not refused any more.
func (r *reader) endRefusals(ctx context.Context) {
	if len(r.over) == 0 {
		return
	}
	if err := r.p.state.EndRecordRefusals(ctx, r.realm, r.over); err != nil {
		r.p.log.Debug("record refusals not cleared", telemetry.Realm(r.realm), telemetry.Error(err))
	}
}
