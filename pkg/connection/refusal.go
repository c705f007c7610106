package connection

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// ErrOtherClient: the token was issued to another client id than the configured one, so
// that Intuit would refuse it. It is kept, and works again with that client id.
var ErrOtherClient = errors.New("token belongs to another client id")

// Refusal is Intuit's answer invalid_grant to a refresh token. It may be wrong: Intuit
// gives the same answer to wrong keys and during incidents of its own, and takes the
// token afterwards. The token is kept and presented again at Next.
type Refusal struct {
	At    time.Time `json:"at"`    // the last time
	First time.Time `json:"first"` // the first time in a row
	Count int       `json:"count"` // in a row
	Next  time.Time `json:"next"`  // when it is tried again
	// Description and TID are Intuit's: error_description, and its id of the call.
	Description string `json:"description,omitempty"`
	TID         string `json:"tid,omitempty"`
	// Client is the client id that was refused. With another one the token is tried at once.
	Client string `json:"client,omitempty"`
	// App says that the app seems to be refused and not the realm: the realm stays live.
	App bool `json:"app,omitempty"`
	// Generation is the token's. A token of another generation was not refused.
	Generation int64 `json:"generation"`
}

// String says what Intuit answered.
func (r Refusal) String() string {
	text := "Intuit refused the refresh token (invalid_grant)"
	if r.Description != "" {
		text += ": " + r.Description
	}
	if r.TID != "" {
		text += ", intuit_tid " + r.TID
	}
	return text
}

// WaitError says that there is no token now, and when to ask again. Nothing has to be
// given up until then.
type WaitError struct {
	RealmID string
	Until   time.Time
	Delay   time.Duration // until then
	Err     error
}

// Error implements error.
func (e *WaitError) Error() string {
	return fmt.Sprintf("realm %s: %v; next try at %s", e.RealmID, e.Err, e.Until.UTC().Format(time.DateTime))
}

// Unwrap returns why.
func (e *WaitError) Unwrap() error { return e.Err }

// After is how long to wait.
func (e *WaitError) After() time.Duration { return max(e.Delay, time.Second) }

func (s *Store) wait(realm string, until time.Time, err error) error {
	return &WaitError{RealmID: realm, Until: until, Delay: until.Sub(s.now()), Err: err}
}

// RetryAfter is how long to wait for a token, if err says so.
func RetryAfter(err error) (time.Duration, bool) {
	var wait *WaitError
	if !errors.As(err, &wait) {
		return 0, false
	}
	return wait.After(), true
}

const (
	// appHold is the least time between two tries while the app seems to be refused, and
	// appHoldMost the most: a tenth of the time it has been refused. One realm tries for
	// all, so that a hundred companies cost Intuit no more than one.
	appHold     = 20 * time.Second
	appHoldMost = 5 * time.Minute
	// otherClientHold is how often a token of another client id is looked at. It costs no
	// call.
	otherClientHold = 30 * time.Second
)

// retryAfter is how long to wait after the n-th refusal in a row.
func retryAfter(n int) time.Duration {
	switch n {
	case 1:
		return time.Hour
	case 2:
		return 6 * time.Hour
	}
	return day
}

var (
	//go:embed refuse.lua
	refuseLua    string
	refuseScript = redis.NewScript(state.ClockLua + refuseLua)
	//go:embed turn.lua
	turnLua    string
	turnScript = redis.NewScript(state.ClockLua + turnLua)
	//go:embed previous.lua
	previousLua    string
	previousScript = redis.NewScript(previousLua)
)

// What refuse.lua does with the realm's state.
const (
	refuseKeep = "keep"
	refusePark = "park"
	refuseFree = "free"
)

// namesClient finds descriptions that blame the app's keys: "Incorrect Token type or
// clientID" (intuit/QuickBooks-V3-PHP-SDK#240).
var namesClient = regexp.MustCompile(`(?i)client[ _-]?id`)

// legacyRefusal is the reason that versions before this one stored, without more.
const legacyRefusal = "Intuit refused the refresh token (invalid_grant)"

// refused reports the refusal of r's token. The realm is parked, unless the app seems to
// be the one that Intuit refuses.
func (s *Store) refused(ctx context.Context, r record, cause error) error {
	if r.State == ReauthRequired && r.refusal() == nil {
		// A person has revoked it: that is no news, and nothing will change it.
		return fmt.Errorf("realm %s: %w: %w", r.RealmID, ErrReauthRequired, cause)
	}
	now := s.now()
	next := Refusal{At: now, First: now, Client: s.client(), Generation: r.Generation}
	if before := r.refusal(); before != nil && before.Client == s.client() {
		next.First, next.Count = before.First, before.Count
	}
	next.Count++
	var answer *qbo.OAuthError
	if errors.As(cause, &answer) {
		next.Description, next.TID = answer.Description, answer.TID
	}
	problem := s.noteRefused(ctx, r, next)
	what := refusePark
	next.App = r.State == Live && (problem.Found() || namesClient.MatchString(next.Description))
	next.Next = now.Add(retryAfter(next.Count))
	if next.App {
		what, next.Next = refuseKeep, now.Add(s.appHold(problem, next))
	}
	changed, err := s.refuse(ctx, r.RealmID, next, what)
	if err != nil || !changed {
		return err
	}
	s.logRefused(r, next)
	if next.App {
		s.freeOthers(ctx, r)
		return s.wait(r.RealmID, next.Next, fmt.Errorf("the app seems to be refused, compare its keys: %w", cause))
	}
	return fmt.Errorf("realm %s: %w: %s", r.RealmID, ErrReauthRequired, next)
}

func (s *Store) logRefused(r record, next Refusal) {
	log, text := s.log.Warn, "refresh token refused again"
	switch {
	case next.App:
		text = "refresh token refused, the app's keys may be wrong"
	case r.State == Live:
		log, text = s.log.Error, "refresh token refused, realm needs reauthorisation"
	}
	fields := []zap.Field{telemetry.Realm(r.RealmID), telemetry.App(r.App), telemetry.Reason(next.String()), telemetry.Count(next.Count), telemetry.After(next.Next.Sub(next.At))}
	log(text, append(fields, telemetry.TID(next.TID))...)
}

// noteRefused tells the breaker over all realms of the app, and returns what it knows.
// Realms that are refused anyway say nothing about the app.
func (s *Store) noteRefused(ctx context.Context, r record, next Refusal) state.AppProblem {
	if r.State != Live {
		return state.AppProblem{}
	}
	found, err := s.state.NoteRefused(ctx, r.App, r.RealmID, state.AppRefusal{By: state.RefusedByOAuth, Message: next.String(), TID: next.TID})
	if err != nil {
		s.log.Warn("refusal not recorded", telemetry.Realm(r.RealmID), telemetry.Error(err))
	}
	if !found {
		return state.AppProblem{}
	}
	return s.appProblem(ctx, r.App)
}

// noteUnauthorizedApp tells the breaker that Intuit does not take the app's own keys.
func (s *Store) noteUnauthorizedApp(ctx context.Context, r record, err error) {
	var answer *qbo.OAuthError
	if !errors.As(err, &answer) || answer.Code != "invalid_client" && answer.Code != "unauthorized_client" {
		return
	}
	refusal := state.AppRefusal{By: state.RefusedByOAuth, Message: answer.Error(), TID: answer.TID, App: true}
	if _, err := s.state.NoteRefused(ctx, r.App, r.RealmID, refusal); err != nil {
		s.log.Warn("refusal not recorded", telemetry.Realm(r.RealmID), telemetry.Error(err))
	}
}

func (s *Store) appProblem(ctx context.Context, app string) state.AppProblem {
	problem, err := s.state.AppProblem(ctx, app)
	if err != nil {
		s.log.Debug("app problem not read", telemetry.App(app), telemetry.Error(err))
		return state.AppProblem{}
	}
	if problem.By != state.RefusedByOAuth {
		return state.AppProblem{} // the token endpoint may work all the same
	}
	return problem
}

// appHold is how long to wait for the next try of an app that is refused: of the whole
// app if the breaker says so, of this realm otherwise.
func (s *Store) appHold(problem state.AppProblem, r Refusal) time.Duration {
	since := r.First
	if problem.Found() {
		since = problem.Since
	}
	return min(max(s.now().Sub(since)/10, appHold), appHoldMost)
}

// freeOthers makes those realms live again that were parked before it was known that
// the app is refused. It does so once: a realm that is refused a second time alone is.
func (s *Store) freeOthers(ctx context.Context, r record) {
	realms, err := s.state.RefusedRealms(ctx, r.App, state.RefusedByOAuth)
	if err != nil {
		s.log.Warn("refused realms not read", telemetry.App(r.App), telemetry.Error(err))
		return
	}
	for _, realm := range realms {
		other, err := s.load(ctx, realm)
		if err != nil || realm == r.RealmID || other.State != ReauthRequired || other.refused == nil || other.refused.Count > 1 {
			continue
		}
		next := *other.refused
		next.App, next.Next = true, s.now().Add(appHold)
		if _, err := s.refuse(ctx, realm, next, refuseFree); err != nil {
			s.log.Warn("realm stays parked, will retry", telemetry.Realm(realm), telemetry.Error(err))
		}
	}
}

// refuse stores a refusal. It reports false if the realm has another token meanwhile.
func (s *Store) refuse(ctx context.Context, realm string, next Refusal, what string) (bool, error) {
	text, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("record the refused token of realm %s: %w", realm, err)
	}
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	done, err := refuseScript.Run(called, s.db, []string{connKey(realm)}, next.Generation, text, what, next.String(), s.stamp()).Bool()
	if err != nil {
		return false, fmt.Errorf("record the refused token of realm %s: %w", realm, err)
	}
	s.forgetKnown(realm)
	s.index(ctx, realm)
	return done, nil
}

// mayPresentPrevious reports whether the token before the stored one was not presented
// yet, and notes that it is: Intuit may take a token that comes again for a stolen one.
func (s *Store) mayPresentPrevious(ctx context.Context, r record) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	may, err := previousScript.Run(ctx, s.db, []string{connKey(r.RealmID)}, r.Generation).Bool()
	return err == nil && may
}

// refusal is what Intuit last answered to the stored token, if it refused it. Versions
// before this one noted no more than the state.
func (r record) refusal() *Refusal {
	if r.refused != nil || r.State != ReauthRequired || !strings.HasPrefix(r.Reason, legacyRefusal) {
		return r.refused
	}
	return &Refusal{At: r.ChangedAt, First: r.ChangedAt, Next: r.ChangedAt.Add(retryAfter(1)), Generation: r.Generation}
}

// retryAt is when the token of a realm is to be refreshed although nobody needs it: a
// refused one is tried again, and a check was asked for. Zero is never.
func (s *Store) retryAt(r record) time.Time {
	if r.token.Refresh == "" || r.State != Live && r.State != ReauthRequired {
		return time.Time{}
	}
	if r.State == Live && !r.check.IsZero() {
		return r.check
	}
	refusal := r.refusal()
	switch {
	case refusal == nil:
		return time.Time{}
	case s.otherClient(refusal.Client):
		return refusal.At
	}
	return refusal.Next
}

// otherClient reports whether a client id is known and another than the configured one.
func (s *Store) otherClient(client string) bool {
	return client != "" && s.client() != "" && client != s.client()
}

// mayAsk says why Intuit is not to be asked for the next token of r, if so. What a person
// asks for is tried, but for a token that cannot work.
func (s *Store) mayAsk(ctx context.Context, r record, d demand) error {
	if s.otherClient(r.token.client) {
		s.metrics.refreshes.WithLabelValues("other_client").Inc()
		err := fmt.Errorf("%w: it was issued to %s and qbo.client_id is %s; set the former, or connect the company with the latter", ErrOtherClient, r.token.client, s.client())
		return s.wait(r.RealmID, s.now().Add(otherClientHold), err)
	}
	if d.forced {
		return nil
	}
	if at := s.retryAt(r); r.refused != nil && s.now().Before(at) {
		return s.wait(r.RealmID, at, errors.New(r.refused.String()))
	}
	if err := s.waitsForRefresh(r); err != nil {
		return err
	}
	problem := s.appProblem(ctx, r.App)
	if !problem.Found() {
		return nil
	}
	until, err := s.takeTurn(ctx, r.App, s.appHold(problem, Refusal{}))
	if err != nil || until.IsZero() {
		return err
	}
	return s.wait(r.RealmID, until, fmt.Errorf("the app is refused: %s", problem.Message))
}

// takeTurn reserves the next try for an app that is refused, by this client id, or
// returns when somebody's turn is over.
func (s *Store) takeTurn(ctx context.Context, app string, hold time.Duration) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := "lf:tmp:1:turn:{" + app + "}:" + s.client()
	ms, err := turnScript.Run(ctx, s.db, []string{key}, hold.Milliseconds(), appHoldMost.Milliseconds(), s.stamp()).Int64()
	if err != nil || ms == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(ms).UTC(), nil
}

// refreshed clears what a successful refresh disproves.
func (s *Store) refreshed(ctx context.Context, r record) {
	ended, err := s.state.NoteAnswered(ctx, r.App, state.RefusedByOAuth)
	if err != nil {
		s.log.Debug("app answer not recorded", telemetry.App(r.App), telemetry.Error(err))
	}
	if ended {
		s.log.Info("app is accepted again", telemetry.App(r.App))
	}
	if r.refusal() == nil {
		return
	}
	s.log.Info("refresh token accepted again", telemetry.Realm(r.RealmID), telemetry.App(r.App))
	if r.State != Parked {
		s.ScanSoon(ctx, r.RealmID)
	}
}

const (
	// retryEvery is how often Watch looks for tokens that are to be tried.
	retryEvery = 10 * time.Second
	// retriedAtOnce bounds one look.
	retriedAtOnce = 100
)

// CheckSoon has a live realm's token refreshed within seconds, which tells whether Intuit
// still takes it. It may be called by anybody: each realm is checked once an hour at most,
// and an unknown realm leaves nothing behind.
func (s *Store) CheckSoon(ctx context.Context, realm string) error {
	known, err := s.Known(ctx, realm)
	switch {
	case errors.Is(err, ErrNotConnected) || err == nil && known != Live:
		return nil
	case err != nil:
		return err
	}
	if _, err := s.state.Lease(ctx, "token-check:"+realm, time.Hour); err != nil { // runs out
		if errors.Is(err, state.ErrHeld) {
			return nil
		}
		return err
	}
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.HSet(called, connKey(realm), fieldCheck, s.now().UnixMilli()).Err(); err != nil {
		return fmt.Errorf("schedule a check of the token of realm %s: %w", realm, err)
	}
	s.index(ctx, realm)
	return nil
}

// RetryDue refreshes the tokens that are due to be tried again or checked. [Store.Watch]
// calls it. Several replicas share the work: each token is tried once.
func (s *Store) RetryDue(ctx context.Context) error {
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s.readClock(called, s.db)()
	due := &redis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(s.now().Unix(), 10), Count: retriedAtOnce}
	realms, err := s.db.ZRangeByScore(called, indexKey(indexRetry), due).Result()
	if err != nil {
		return fmt.Errorf("list the tokens to check again: %w", err)
	}
	for _, realm := range realms {
		if ctx.Err() != nil {
			return nil
		}
		err := s.retry(ctx, realm)
		if err != nil && !errors.Is(err, ErrReauthRequired) && ctx.Err() == nil {
			s.log.Debug("refused token not checked", telemetry.Realm(realm), telemetry.Error(err))
		}
		s.index(ctx, realm)
	}
	return nil
}

func (s *Store) retry(ctx context.Context, realm string) error {
	r, err := s.load(ctx, realm)
	if err != nil || s.retryAt(r).IsZero() {
		return err
	}
	if !r.check.IsZero() {
		called, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if n, err := s.db.HDel(called, connKey(realm), fieldCheck).Result(); err != nil || n == 0 {
			return err // another replica has it
		}
		_, err = s.refresh(ctx, realm, demand{beyond: r.Generation, check: true})
		return err
	}
	_, err = s.refresh(ctx, realm, demand{beyond: r.Generation, retry: true})
	return err
}

// reindexRetries looks again when refused tokens are due: with another client id than the
// one that was refused that is now.
func (s *Store) reindexRetries(ctx context.Context) error {
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	realms, err := s.db.ZRange(called, indexKey(indexRetry), 0, -1).Result()
	if err != nil {
		return fmt.Errorf("list the tokens to check again: %w", err)
	}
	for len(realms) > 0 {
		part := realms[:min(batch, len(realms))]
		realms = realms[len(part):]
		records, err := s.loadAll(ctx, part)
		if err != nil {
			return err
		}
		if err := s.place(ctx, records); err != nil {
			return err
		}
	}
	return nil
}

// watchRetries tries refused tokens again when they are due, until ctx ends.
func (s *Store) watchRetries(ctx context.Context) {
	step := s.reindexRetries
	for {
		if err := step(ctx); err == nil {
			step = s.RetryDue
		} else if ctx.Err() == nil {
			s.log.Debug("refused tokens not checked", telemetry.Error(err))
		}
		if lifecycle.Sleep(ctx, s.retryEvery) != nil {
			return
		}
	}
}
