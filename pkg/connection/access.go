package connection

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// AccessRefusal is what Intuit answers to every call about a realm. The zero value is none.
type AccessRefusal struct {
	// As is the state that the realm is in, or will be if more probes agree.
	As State
	// Message is Intuit's words, TID its id of the call for a support case.
	Message string
	TID     string
	Since   time.Time
	// Next is when Intuit is asked again; nothing else asks before.
	Next time.Time
	// Probes is how many calls in a row were refused that were made to find out.
	Probes int
}

// Found reports whether there is one.
func (r AccessRefusal) Found() bool { return !r.Since.IsZero() }

var (
	//go:embed access_states.lua
	accessStatesLua string
	//go:embed access_note.lua
	accessNoteLua    string
	accessNoteScript = redis.NewScript(state.ClockLua + accessStatesLua + accessNoteLua)
	//go:embed access_probe.lua
	accessProbeLua    string
	accessProbeScript = redis.NewScript(state.ClockLua + accessProbeLua)
	//go:embed access_set.lua
	accessSetLua    string
	accessSetScript = redis.NewScript(state.ClockLua + accessSetLua)
	//go:embed access_end.lua
	accessEndLua    string
	accessEndScript = redis.NewScript(state.ClockLua + accessStatesLua + accessEndLua)
)

// NoteAccessRefusal notes that Intuit refused a probe of a realm that is live or refused, and
// returns how many it refused so far and since when. The next one is due after wait.
func (s *Store) NoteAccessRefusal(ctx context.Context, realm string, r AccessRefusal, wait time.Duration) (AccessRefusal, error) {
	if !r.As.Refused() {
		return AccessRefusal{}, fmt.Errorf("refusal of realm %s: %q is not a state for a refusal", realm, r.As)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := accessNoteScript.Run(ctx, s.db, []string{connKey(realm)}, string(r.As), r.Message, r.TID, wait.Milliseconds(), s.stamp()).Int64Slice()
	s.forgetKnown(realm)
	switch {
	case errors.Is(err, redis.Nil):
		return AccessRefusal{}, fmt.Errorf("realm %s: %w", realm, ErrNotConnected)
	case err != nil:
		return AccessRefusal{}, fmt.Errorf("record the refusal of realm %s: %w", realm, err)
	}
	r.Probes, r.Since = int(got[0]), time.UnixMilli(got[1]).UTC()
	return r, nil
}

// ClaimProbe reports whether the next probe of a realm is due and the caller's. All
// others wait: for hold, or until the outcome is noted.
func (s *Store) ClaimProbe(ctx context.Context, realm string, hold time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	mine, err := accessProbeScript.Run(ctx, s.db, []string{connKey(realm)}, hold.Milliseconds(), s.stamp()).Bool()
	if err != nil {
		return false, fmt.Errorf("claim the probe of realm %s: %w", realm, err)
	}
	return mine, nil
}

// Refuse puts a live realm whose probes were refused into the state that they speak for,
// and reports whether it was still so. The next probe is due after wait.
func (s *Store) Refuse(ctx context.Context, realm string, to State, reason string, wait time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done, err := accessSetScript.Run(ctx, s.db, []string{connKey(realm)}, string(to), reason, s.stamp(), wait.Milliseconds()).Bool()
	s.forgetKnown(realm)
	if err != nil {
		return false, fmt.Errorf("put realm %s into state %s: %w", realm, to, err)
	}
	if done {
		s.index(ctx, realm)
	}
	return done, nil
}

// Answered notes that Intuit answers a realm: one that it refused is live again. It
// returns the state it was in; "" if it was live.
func (s *Store) Answered(ctx context.Context, realm string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	was, err := accessEndScript.Run(ctx, s.db, []string{connKey(realm)}, s.stamp()).Text()
	s.forgetKnown(realm)
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("record the answer for realm %s: %w", realm, err)
	}
	if was != "" {
		s.index(ctx, realm)
	}
	return State(was), nil
}

func accessOf(fields map[string]string) AccessRefusal {
	probes, _ := strconv.Atoi(fields[fieldRefusedProbes]) // nothing: none
	return AccessRefusal{
		As: State(fields[fieldRefusedAs]), Message: fields[fieldRefusedMessage], TID: fields[fieldRefusedTID],
		Since: fromMillis(fields[fieldRefusedSince]), Next: fromMillis(fields[fieldRefusedNext]), Probes: probes,
	}
}
