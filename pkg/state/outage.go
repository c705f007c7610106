package state

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kinds of outages.
const (
	// OutageIngress: no replica of the ingress was ready, so that Intuit's webhooks
	// were not taken.
	OutageIngress = "ingress"
	// OutageUnwatched: no reconciler listened for more than [UnwatchedBound], and the
	// broker has no record of that time, so nobody knows whether webhooks were taken.
	OutageUnwatched = "unwatched"
	// OutageBroker: the broker has lost events it had acknowledged.
	OutageBroker = "broker"
	// OutageLag: events wait on the stream for too long. A suspicion: nothing is lost
	// yet, and no realm is made due for it.
	OutageLag = "lag"
)

// UnwatchedBound is how long nobody may listen, without a record of that time, before it
// counts as an outage: longer than an upgrade or a restart of a machine takes.
const UnwatchedBound = 10 * time.Minute

// MaxOutages is how many outages are kept, the latest.
const MaxOutages = 200

// Outage is a time in which changes may not have come by webhook because of us.
// Times are ours, in milliseconds: allow for some seconds of difference when they
// are compared with Intuit's.
type Outage struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"` // of one that is Open: how far it is known to reach
	Kind   string    `json:"kind"`
	Detail string    `json:"detail,omitempty"`
	Open   bool      `json:"open,omitempty"` // it has not ended yet
}

var (
	//go:embed outage.lua
	outageLua string
	//go:embed outage_add.lua
	outageAddLua    string
	outageAddScript = redis.NewScript(ClockLua + outageLua + outageAddLua)
	//go:embed outage_watch.lua
	outageWatchLua    string
	outageWatchScript = redis.NewScript(ClockLua + outageLua + outageWatchLua)
)

const (
	outagesKey = durable + "outages:{outage}"
	watchKey   = durable + "watch:{outage}"
)

var outageKeys = []string{outagesKey, watchKey}

var kindPattern = regexp.MustCompile(`^[A-Za-z]+$`)

// AddOutage notes an outage. One of the same kind that it touches is widened
// instead, so that adding twice, or while it lasts, leaves one. All but
// [OutageLag] move [Watch].Since, so that every realm is scanned after it.
func (s *Store) AddOutage(ctx context.Context, o Outage) error {
	if !kindPattern.MatchString(o.Kind) || millis(o.From) == 0 || o.To.Before(o.From) {
		return fmt.Errorf("outage %q from %s to %s: give a kind in letters, and times in order", o.Kind, o.From, o.To)
	}
	due := "due"
	if o.Kind == OutageLag {
		due = ""
	}
	detail := strings.Join(strings.Fields(o.Detail), " ")
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := outageAddScript.Run(ctx, s.db, outageKeys, o.Kind, millis(o.From), millis(o.To), detail, due, MaxOutages).Err()
	if err != nil {
		return fmt.Errorf("record an outage (%s): %w", o.Kind, err)
	}
	return nil
}

// Outages returns the outages that are kept, the latest first. The first may be
// one of the ingress that has not ended.
func (s *Store) Outages(ctx context.Context) ([]Outage, error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	members, err := s.db.ZRevRange(bounded, outagesKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the outages: %w", err)
	}
	w, err := s.Watch(ctx)
	if err != nil {
		return nil, err
	}
	var all []Outage
	if w.down() {
		all = append(all, Outage{From: w.Beat, To: w.Watched, Kind: OutageIngress, Open: true})
	}
	for _, m := range members {
		o, err := parseOutage(m)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func parseOutage(member string) (Outage, error) {
	parts := strings.SplitN(member, ",", 4)
	if len(parts) != 4 {
		return Outage{}, fmt.Errorf("read the outages: %q is not an outage", member)
	}
	from, err1 := strconv.ParseInt(parts[1], 10, 64)
	to, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		return Outage{}, fmt.Errorf("read the outages: %q has no times", member)
	}
	return Outage{Kind: parts[0], From: fromMillis(from), To: fromMillis(to), Detail: parts[3]}, nil
}

// Watch is what is known of the ingress from its beats, and of what follows from
// outages.
type Watch struct {
	Beat    time.Time // when a replica of the ingress was last heard; zero: never
	Watched time.Time // when somebody last listened; zero: never
	// Since is the end of the last outage: every realm must be scanned after it.
	Since time.Time
	// Settled is up to which Since the realms have been made due.
	Settled time.Time

	gap time.Duration
}

// Pending reports whether realms must be made due for an outage.
func (w Watch) Pending() bool { return w.Since.After(w.Settled) }

// Down reports whether no ingress was heard when somebody last listened: an outage that
// has not ended.
func (w Watch) Down() bool { return w.down() }

func (w Watch) down() bool { return !w.Beat.IsZero() && w.Watched.Sub(w.Beat) > w.gap }

// NoteWatch says that somebody listens for the beats of the ingress, and whether he
// has heard one since he last said so. A silence longer than gap becomes an outage
// once it is over, also the one of those who listen. Replicas call it as they like:
// they are one listener. The zero time is now, by Redis's clock; another is for tests.
// A time in which nobody listened is an outage if it is longer than [UnwatchedBound] and
// gap.
func (s *Store) NoteWatch(ctx context.Context, at time.Time, heard bool, gap time.Duration) (Watch, error) {
	return s.noteWatch(ctx, at, heard, gap, "")
}

// NoteRecordedWatch is NoteWatch for who has read the broker's record of the time in which
// nobody listened: the ingress last beat that long ago. Add the silences within that time
// as outages first; it is none itself.
func (s *Store) NoteRecordedWatch(ctx context.Context, at time.Time, heard bool, gap, lastBeat time.Duration) (Watch, error) {
	return s.noteWatch(ctx, at, heard, gap, strconv.FormatInt(lastBeat.Milliseconds(), 10))
}

func (s *Store) noteWatch(ctx context.Context, at time.Time, heard bool, gap time.Duration, recorded string) (Watch, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	beat := "0"
	if heard {
		beat = "1"
	}
	now := s.ClockArg()
	if !at.IsZero() {
		now = strconv.FormatInt(millis(at), 10)
	}
	values, err := outageWatchScript.Run(ctx, s.db, outageKeys, now, beat, gap.Milliseconds(), MaxOutages, UnwatchedBound.Milliseconds(), recorded).Slice()
	if err != nil {
		return Watch{}, fmt.Errorf("record the heartbeat of the ingress: %w", err)
	}
	return watchOf(values), nil
}

// Watch returns what NoteWatch has gathered.
func (s *Store) Watch(ctx context.Context) (Watch, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	values, err := s.db.HMGet(ctx, watchKey, "beat", "watched", "gap", "since", "settled").Result()
	if err != nil {
		return Watch{}, fmt.Errorf("read the heartbeat of the ingress: %w", err)
	}
	return watchOf(values), nil
}

func watchOf(values []any) Watch {
	ms := make([]int64, 5)
	for i, v := range values[:min(len(values), len(ms))] {
		text, _ := v.(string)
		ms[i], _ = strconv.ParseInt(text, 10, 64) // nothing: never
	}
	return Watch{
		Beat: fromMillis(ms[0]), Watched: fromMillis(ms[1]), gap: time.Duration(ms[2]) * time.Millisecond,
		Since: fromMillis(ms[3]), Settled: fromMillis(ms[4]),
	}
}

// Settle says that every realm has been made due for what [Watch].Since was then.
func (s *Store) Settle(ctx context.Context, since time.Time) error {
	if err := s.growWatch(ctx, "settled", since); err != nil {
		return fmt.Errorf("record that the realms are due: %w", err)
	}
	return nil
}

// growWatch raises a time of the watch.
func (s *Store) growWatch(ctx context.Context, field string, to time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return growScript.Run(ctx, s.db, []string{watchKey}, field, millis(to)).Err()
}

// NoteCoverage says what the scans cover, in any one spelling. If it is not what it
// was, every realm must be scanned after that time, which is by Redis's clock.
func (s *Store) NoteCoverage(ctx context.Context, covers string, at time.Time) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	before, err := s.db.HGet(ctx, watchKey, "covers").Result()
	switch {
	case err == nil && before == covers:
		return nil
	case err == nil:
		err = s.growWatch(ctx, "since", at)
	case errors.Is(err, redis.Nil):
		err = nil
	}
	if err == nil {
		err = s.db.HSet(ctx, watchKey, "covers", covers).Err()
	}
	if err != nil {
		return fmt.Errorf("record the time that scans cover: %w", err)
	}
	return nil
}

// Position is how far the event stream was when it was last looked at.
type Position struct {
	Created string // tells one stream from the next of its name
	Last    uint64 // sequence of the newest message
	Lost    int    // messages the broker could not read any more
	// Safe is a time before which nothing was waiting.
	Safe time.Time
}

// Position returns the last one noted; the zero value for none.
func (s *Store) Position(ctx context.Context) (Position, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HMGet(ctx, watchKey, "created", "last", "safe", "lost").Result()
	if err != nil {
		return Position{}, fmt.Errorf("read the position of the stream: %w", err)
	}
	var p Position
	p.Created, _ = fields[0].(string)
	last, _ := fields[1].(string)
	p.Last, _ = strconv.ParseUint(last, 10, 64)
	safe, _ := fields[2].(string)
	ms, _ := strconv.ParseInt(safe, 10, 64)
	p.Safe = fromMillis(ms)
	lost, _ := fields[3].(string)
	p.Lost, _ = strconv.Atoi(lost)
	return p, nil
}

// SetPosition notes a position. Hold a lease from the look to here, or an older
// look may replace a younger one.
func (s *Store) SetPosition(ctx context.Context, p Position) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := s.db.HSet(ctx, watchKey, "created", p.Created, "last", strconv.FormatUint(p.Last, 10), "safe", millis(p.Safe), "lost", p.Lost).Err()
	if err != nil {
		return fmt.Errorf("record the position of the stream: %w", err)
	}
	return nil
}
