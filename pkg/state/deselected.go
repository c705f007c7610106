package state

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The thresholds of [Store.Deselected]. A single outage of the way to the ingress fills at
// most two of the ten minutes, its first and its last: in those between no webhook came.
const (
	// DeselectedChanges is how many changes must have had no webhook.
	DeselectedChanges = 4
	// DeselectedPerRealm is how many of them a realm counts at most: what is wrong with
	// one realm says nothing about the others.
	DeselectedPerRealm = 2
	// DeselectedTimes is in how many different ten minutes they must have happened.
	DeselectedTimes = 3
)

const (
	// liveSpan is the ten minutes in which a change without a webhook is compared with
	// the webhooks of other kinds.
	liveSpan = 10 * time.Minute
	// liveKept is how long is remembered in which of them webhooks came, and which changes
	// had none.
	liveKept = 14 * day
	// maxUnheardRealms bounds the realms remembered for a kind, a sample of them;
	// maxUnheardSpans the changes of each.
	maxUnheardRealms, maxUnheardSpans = 50, 6
)

// The keys share a slot with the counts over all realms.
const liveKey = durable + "live:{app}"

func unheardKey(k Kind) string { return durable + "unheard:{app}:" + k.field() }

var (
	//go:embed unheard.lua
	unheardLua    string
	unheardScript = redis.NewScript(unheardLua)
)

// span numbers the ten minutes of a time.
func span(t time.Time) int64 { return t.Unix() / int64(liveSpan/time.Second) }

// unheard is a change of which webhooks of its kind should have told.
type unheard struct {
	Kind
	realm string
	span  int64
}

// noteUnheard notes in which spans webhooks came, and changes of which none told.
func (s *Store) noteUnheard(ctx context.Context, live map[int64]bool, changes []unheard) error {
	if len(live)+len(changes) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	keys := []string{liveKey, heardKey}
	args := []any{span(s.now().Add(-liveKept)), liveKept.Milliseconds(), maxUnheardRealms, maxUnheardSpans, len(live)}
	for n := range live {
		args = append(args, n)
	}
	for _, c := range changes {
		keys = append(keys, unheardKey(c.Kind))
		also := c.Kind
		if also.Operation == "delete" {
			also.Operation = "merge" // see lastHeard
		}
		args = append(args, c.field(), also.field(), c.realm, c.span)
	}
	if err := unheardScript.Run(ctx, s.db, keys, args...).Err(); err != nil {
		return fmt.Errorf("record changes without a webhook: %w", err)
	}
	return nil
}

// Deselection is a kind of change whose webhooks came once and are sent no more, while
// those of other kinds are: it was probably unticked in Intuit's portal.
type Deselection struct {
	Kind
	// Since is the last webhook of the kind in any realm, by the event's own time.
	Since time.Time
	// Changes without a webhook since then, of which some were left out beyond
	// six of a realm and fifty realms, and how many realms they are of.
	Changes, Realms int
}

// ExplainGaps gives the gaps that are explained by a deselection its verdict: those that
// were found before there were enough of them are noted as lost.
func ExplainGaps(gaps []Gap, deselected map[Kind]Deselection) {
	for i, g := range gaps {
		d, ok := deselected[Kind{g.Entity, g.Operation}]
		if ok && g.Verdict == VerdictLost && g.Event.After(d.Since) {
			gaps[i].Verdict = VerdictDeselected
		}
	}
}

// Deselected returns the kinds that were deselected, by kind. It rests on changes that
// scans found since the last webhook of their kind, each of which happened in the same ten
// minutes as one that a webhook told of, in a realm that webhooks told of later changes. So
// an outage, an endpoint that was changed, and a realm that has no webhooks are none. What
// it costs does not depend on the number of realms.
func (s *Store) Deselected(ctx context.Context) (map[Kind]Deselection, error) {
	heard, err := s.Heard(ctx)
	if err != nil {
		return nil, err
	}
	evidence, err := s.unheardSince(ctx, heard)
	if err != nil {
		return nil, fmt.Errorf("read changes without a webhook: %w", err)
	}
	if len(evidence) == 0 {
		return nil, nil
	}
	live, err := s.liveSpans(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the times of webhooks: %w", err)
	}
	found := map[Kind]Deselection{}
	for k, realms := range evidence {
		if realms, err = s.told(ctx, realms, live); err != nil {
			return nil, err
		}
		if enough(realms) {
			found[k] = Deselection{Kind: k, Since: lastHeard(heard, k), Changes: changes(realms), Realms: len(realms)}
		}
	}
	return found, nil
}

// lastHeard is the last webhook of the kind. A scan takes a merge for a deletion.
func lastHeard(heard map[Kind]time.Time, k Kind) time.Time {
	last := heard[k]
	if merged := heard[Kind{k.Entity, "merge"}]; k.Operation == "delete" && merged.After(last) {
		return merged
	}
	return last
}

// unheardSince returns the spans of changes since the last webhook of their kind, by kind
// and realm, where there are enough of them.
func (s *Store) unheardSince(ctx context.Context, heard map[Kind]time.Time) (map[Kind]map[string][]int64, error) {
	var kinds []Kind
	for k := range heard {
		switch k.Operation {
		case "create", "update", "delete":
			kinds = append(kinds, k)
		case "merge":
			if k.Operation = "delete"; heard[k].IsZero() {
				kinds = append(kinds, k)
			}
		}
	}
	if len(kinds) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	reads := make([]*redis.MapStringStringCmd, len(kinds))
	pipe := s.db.Pipeline()
	for i, k := range kinds {
		reads[i] = pipe.HGetAll(ctx, unheardKey(k))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	evidence := map[Kind]map[string][]int64{}
	for i, k := range kinds {
		since := span(lastHeard(heard, k))
		realms := map[string][]int64{}
		for realm, text := range reads[i].Val() {
			if spans := spansAfter(text, since); len(spans) > 0 {
				realms[realm] = spans
			}
		}
		if enough(realms) {
			evidence[k] = realms
		}
	}
	return evidence, nil
}

func spansAfter(text string, since int64) (spans []int64) {
	for part := range strings.SplitSeq(text, ",") {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil && n > since {
			spans = append(spans, n)
		}
	}
	return spans
}

// enough reports whether the changes reach the thresholds.
func enough(realms map[string][]int64) bool {
	counted, times := 0, map[int64]bool{}
	for _, spans := range realms {
		counted += min(len(spans), DeselectedPerRealm)
		for _, n := range spans {
			times[n] = true
		}
	}
	return counted >= DeselectedChanges && len(times) >= DeselectedTimes
}

func changes(realms map[string][]int64) (n int) {
	for _, spans := range realms {
		n += len(spans)
	}
	return n
}

// liveSpans are those in which a webhook's event happened.
func (s *Store) liveSpans(ctx context.Context) (map[int64]bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	members, err := s.db.ZRange(ctx, liveKey, 0, -1).Result()
	if err != nil {
		return nil, err
	}
	live := make(map[int64]bool, len(members))
	for _, m := range members {
		if n, err := strconv.ParseInt(m, 10, 64); err == nil {
			live[n] = true
		}
	}
	return live, nil
}

// told keeps the changes that happened while webhooks came, in realms that a webhook told
// of a change after them.
func (s *Store) told(ctx context.Context, realms map[string][]int64, live map[int64]bool) (map[string][]int64, error) {
	names := make([]string, 0, len(realms))
	for realm := range realms {
		names = append(names, realm)
	}
	last, err := s.LastTold(ctx, names)
	if err != nil {
		return nil, err
	}
	kept := map[string][]int64{}
	for i, realm := range names {
		until := span(last[i])
		spans := slices.DeleteFunc(slices.Clone(realms[realm]), func(n int64) bool { return !live[n] || n > until })
		if len(spans) > 0 {
			kept[realm] = spans
		}
	}
	return kept, nil
}
