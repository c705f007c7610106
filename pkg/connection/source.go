package connection

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

var (
	//go:embed reject.lua
	rejectLua    string
	rejectScript = redis.NewScript(state.ClockLua + rejectLua)
)

// A 401 is answered by one refresh a rejectWindow. Intuit answers 401 to good tokens, too
// (python-quickbooks#369, oauth-jsclient#135), and refuses refreshes that follow too soon
// upon each other (python-quickbooks#397). After that the realm is held: for firstHold,
// then twice as long each time.
const (
	rejectWindow = 10 * time.Minute
	firstHold    = time.Minute
	longestHold  = 30 * time.Minute
)

var errHeld = errors.New("the API refuses a token that was issued just before (401)")

// Token returns an access token that is good for a while, after a refresh if
// need be. It waits while another caller or replica refreshes the realm's. An
// error wraps [ErrNotConnected], [ErrReauthRequired] or [ErrParked], or is a passing
// one that leaves the connection as it is: a [WaitError] says when to ask again.
func (s *Store) Token(ctx context.Context, realm string) (secret.String, error) {
	var useless secret.String
	if !s.hasUnsaved(realm) {
		r, err := s.load(ctx, realm)
		if err != nil {
			return "", err
		}
		if err := r.usable(); err != nil {
			return "", err
		}
		if s.held(r) {
			return "", s.wait(realm, r.HeldUntil, errHeld)
		}
		if s.fresh(r) {
			return r.Token.Access, nil
		}
		if !s.valid(r) {
			useless = r.Token.Access
		}
	}
	return s.share(ctx, realm, useless)
}

// Refresh gets a new token now, whatever the stored one is good for, also for a
// realm that is [Parked], and for one that is [ReauthRequired], which is live and due for
// a scan if Intuit takes its token. It waits for a refresh that is under way, and is
// content with one that began after the call.
func (s *Store) Refresh(ctx context.Context, realm string) error {
	r, err := s.load(ctx, realm)
	if err != nil {
		return err
	}
	if _, err = s.refresh(ctx, realm, demand{forced: true, beyond: r.Generation}); err != nil {
		return err
	}
	return s.Release(ctx, realm)
}

// Release forgets that the API refused tokens of a realm: no call and no refresh waits
// for that reason any more.
func (s *Store) Release(ctx context.Context, realm string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.HDel(ctx, connKey(realm), fieldHeld, "holds", "rejected_at").Err(); err != nil {
		return fmt.Errorf("release realm %s: %w", realm, err)
	}
	return nil
}

// held: the API is to be left alone for a while. A time that is further ahead than any
// hold comes of a clock that was.
func (s *Store) held(r record) bool {
	left := r.HeldUntil.Sub(s.now())
	return left > 0 && left <= longestHold
}

// Rejected notes that the API refused an access token, so that it is replaced before the
// next call of any replica. If one was replaced for that reason within ten minutes it is
// kept, and there is none to be had for a while. A token that was replaced meanwhile is
// left alone.
func (s *Store) Rejected(ctx context.Context, realm string, token secret.String) error {
	r, err := s.load(ctx, realm)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(r.Token.Access.Reveal()), []byte(token.Reveal())) != 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	window := s.rejectWindow
	if sabotage.On(sabotage.RefreshOnEvery401) {
		window = 0
	}
	limits := []any{r.Generation, window.Milliseconds(), firstHold.Milliseconds(), longestHold.Milliseconds(), s.stamp()}
	if err := rejectScript.Run(ctx, s.db, []string{connKey(realm)}, limits...).Err(); err != nil {
		return fmt.Errorf("reject the token of realm %s: %w", realm, err)
	}
	s.stored(realm, token)
	return nil
}

// live: the realm has a token, if perhaps one that must be refreshed. So has one that
// Intuit refuses: the probe that finds out whether it still does needs it.
func (r record) live() bool { return (r.State == Live || r.State.Refused()) && r.Token.Refresh != "" }

// usable says why a realm has no token to give, if so.
func (r record) usable() error {
	switch {
	case r.live():
		return nil
	case r.State == ReauthRequired && r.Reason != "":
		return fmt.Errorf("realm %s: %w: %s", r.RealmID, ErrReauthRequired, r.Reason)
	case r.State == ReauthRequired || r.State == Live:
		return fmt.Errorf("realm %s: %w", r.RealmID, ErrReauthRequired)
	case r.State == Parked:
		return fmt.Errorf("realm %s: %w: %s", r.RealmID, ErrParked, r.Reason)
	default:
		return fmt.Errorf("realm %s is disconnected: %w", r.RealmID, ErrNotConnected)
	}
}

// refreshable: Intuit can be asked for the next token.
func (r record) refreshable() bool {
	return (r.State == Live || r.State == Parked || r.State.Refused()) && r.Token.Refresh != ""
}

// fresh: nothing speaks against the token.
func (s *Store) fresh(r record) bool { return s.good(r, s.aheadOf(r.token)) }

// valid: it is to be refreshed, but will do if that is not possible now.
func (s *Store) valid(r record) bool { return s.good(r, 0) }

func (s *Store) good(r record, margin time.Duration) bool {
	return r.live() && !r.rejected && r.Token.Access != "" && s.now().Add(margin).Before(r.Token.AccessExpires)
}

// aheadOf is how long before its end a token is refreshed. Were it longer than
// a short-lived token lives, each call would refresh.
func (s *Store) aheadOf(t stored) time.Duration {
	return max(0, min(s.ahead, t.AccessExpires.Sub(t.at)/4))
}
