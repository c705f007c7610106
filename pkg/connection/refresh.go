package connection

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// leaseTime is how long a crashed refresh keeps others from trying. The lease
	// is renewed while Intuit is asked.
	leaseTime = 30 * time.Second
	// askTimeout bounds a Refresher that has no timeout of its own; qbo's is
	// shorter.
	askTimeout = 150 * time.Second
	// defaultSaveFor is how long storing a new token is tried before the call fails.
	defaultSaveFor = 10 * time.Second
	// lookAgain is about how often a caller looks whether another replica is done.
	lookAgain = 100 * time.Millisecond
	// refreshLifetime is what Intuit documents for a refresh token, for an answer that
	// does not say it.
	refreshLifetime = 100 * day
)

// errOvertaken: the lease was lost, and somebody else stored a token meanwhile.
var errOvertaken = errors.New("another replica was faster")

var (
	//go:embed persist.lua
	persistLua    string
	persistScript = redis.NewScript(state.ClockLua + persistLua)
)

// answer is a token Intuit gave that is not stored yet.
type answer struct {
	generation int64 // that it was got with
	token      stored
	from       string // the sealed token it was got with
}

// demand says what a caller wants of a refresh: a fresh token, or one of a later
// generation.
type demand struct {
	forced bool // a person wants it: also of a parked realm, and now
	retry  bool // a token that was refused is due
	check  bool // somebody wants to know whether Intuit takes the token
	beyond int64
}

// later: not any fresh token will do.
func (d demand) later() bool { return d.forced || d.retry || d.check }

// may says why no token can be had, if so.
func (d demand) may(r record) error {
	known := r.Token.Refresh != ""
	switch {
	case d.forced && known && r.State != Disconnected, d.retry && known && r.State == ReauthRequired:
		return nil
	}
	return r.usable()
}

// met reports whether the stored token is what is wanted.
func (d demand) met(s *Store, r record) bool {
	switch {
	case d.retry && r.Generation == d.beyond:
		at := s.retryAt(r)
		return at.IsZero() || s.now().Before(at)
	case d.later():
		return r.Generation > d.beyond
	}
	return s.fresh(r)
}

// refresh returns the token that is wanted, whoever makes it so.
func (s *Store) refresh(ctx context.Context, realm string, d demand) (secret.String, error) {
	for {
		if _, err := s.saveUnsaved(ctx, realm); err != nil {
			return "", err
		}
		r, err := s.load(ctx, realm)
		if err != nil {
			return "", err
		}
		if err := d.may(r); err != nil {
			return "", err
		}
		if d.met(s, r) {
			return r.Token.Access, nil
		}
		lease, err := s.state.Lease(ctx, leaseName(realm)+sabotage.Apart(sabotage.RefreshUnleased), leaseTime)
		switch {
		case err != nil && !d.later() && s.valid(r):
			return r.Token.Access, nil
		case errors.Is(err, state.ErrHeld):
			if err := lifecycle.Sleep(ctx, lookAgain/2+rand.N(lookAgain)); err != nil {
				return "", fmt.Errorf("wait for the refresh of realm %s: %w", realm, err)
			}
			continue
		case err != nil:
			return "", err
		}
		token, err := s.refreshOnce(ctx, realm, lease, d)
		if !s.hasUnsaved(realm) {
			// Otherwise nobody may ask with the old token until the lease runs out.
			// An error needs no handling: it runs out in any case.
			_ = lease.Release(ctx)
		}
		switch {
		case err == nil && token != "":
			return token, nil
		case err == nil:
			continue
		case !d.later() && s.valid(r) && !errors.Is(err, ErrReauthRequired) && !errors.Is(err, ErrNotConnected):
			s.stillWorks(realm, err)
			return r.Token.Access, nil
		default:
			return "", err
		}
	}
}

func (s *Store) stillWorks(realm string, err error) {
	log := s.log.Warn
	if _, known := RetryAfter(err); known {
		log = s.log.Debug // why was logged when it began
	}
	log("token not refreshed, the old one still works", telemetry.Realm(realm), telemetry.Error(err))
}

// refreshOnce makes one refresh under the lease. No token and no error means
// that somebody else's is to be read.
func (s *Store) refreshOnce(ctx context.Context, realm string, lease *state.Lease, d demand) (secret.String, error) {
	r, err := s.load(ctx, realm)
	if err != nil {
		return "", err
	}
	if d.may(r) != nil || d.met(s, r) {
		return "", nil //nolint:nilerr // the caller reads again and says why
	}
	if err := s.mayAsk(ctx, r, d); err != nil {
		return "", err
	}
	a, err := s.exchange(ctx, lease, r)
	switch {
	case errors.Is(err, errOvertaken):
		return "", nil
	case errors.Is(err, qbo.ErrInvalidGrant):
		s.metrics.refreshes.WithLabelValues("refused").Inc()
		return "", s.refused(ctx, r, err)
	case err != nil:
		s.metrics.refreshes.WithLabelValues("failed").Inc()
		s.noteUnauthorizedApp(ctx, r, err)
		if answer, ok := unanswered(err); ok {
			return "", s.noteUnanswered(ctx, r, answer, err)
		}
		return "", fmt.Errorf("refresh the token of realm %s: %w", realm, err)
	}
	s.metrics.refreshes.WithLabelValues("ok").Inc()
	s.keepUnsaved(realm, a)
	// Stored before used: a crash in between must not leave a caller with a token
	// whose successor nobody knows.
	first, err := s.saveUnsaved(ctx, realm)
	if err != nil || !first {
		return "", err
	}
	s.refreshed(ctx, r)
	return a.token.Access, nil
}

// exchange trades the refresh token of r for the next token, the one before it
// if that is refused.
func (s *Store) exchange(ctx context.Context, lease *state.Lease, r record) (answer, error) {
	from, client := r.sealed, s.client() // another one's keys may be set meanwhile
	t, err := s.ask(ctx, lease, r.Token.Refresh)
	if errors.Is(err, qbo.ErrInvalidGrant) {
		now, readErr := s.load(ctx, r.RealmID)
		if readErr != nil {
			return answer{}, readErr
		}
		if now.Generation != r.Generation {
			return answer{}, errOvertaken
		}
		from = r.previous
		t, err = s.askPrevious(ctx, lease, r, err)
	}
	if err != nil {
		return answer{}, err
	}
	t = s.shared(t)
	if t.Refresh == "" {
		t.Refresh = r.Token.Refresh
	}
	if t.RefreshExpires.IsZero() {
		t.RefreshExpires = s.now().Add(refreshLifetime)
	}
	if t.RefreshHardExpires.IsZero() {
		t.RefreshHardExpires = r.Token.RefreshHardExpires
	}
	return answer{generation: r.Generation, token: stored{t, s.now(), client}, from: from}, nil
}

// askPrevious tries the token before the refused one, once for each stored token. It
// helps if what was stored last never became valid.
func (s *Store) askPrevious(ctx context.Context, lease *state.Lease, r record, refused error) (qbo.Token, error) {
	previous, err := s.keys.Load().openToken(r.RealmID, r.previous)
	if err != nil || previous.Refresh == "" || previous.Refresh == r.Token.Refresh || s.otherClient(previous.client) {
		return qbo.Token{}, refused
	}
	var answer *qbo.OAuthError
	if errors.As(refused, &answer) && namesClient.MatchString(answer.Description) {
		return qbo.Token{}, refused // it is about the app, not about the token
	}
	if !s.mayPresentPrevious(ctx, r) {
		return qbo.Token{}, refused
	}
	s.log.Warn("refresh token refused; trying the previous one", telemetry.Realm(r.RealmID))
	return s.ask(ctx, lease, previous.Refresh)
}

// ask trades a refresh token and keeps the lease meanwhile. Once begun it is not
// broken off: the answer may be the only valid token.
func (s *Store) ask(ctx context.Context, lease *state.Lease, refresh secret.String) (qbo.Token, error) {
	if err := ctx.Err(); err != nil {
		return qbo.Token{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	var renewing sync.WaitGroup
	renewing.Go(func() { s.renew(ctx, lease) })
	t, err := s.refresher.Refresh(ctx, refresh)
	cancel()
	renewing.Wait()
	if err == nil && t.Access == "" {
		err = errors.New("the answer has no access token")
	}
	return t, err
}

// renew keeps a lease until ctx ends. A lost one is no reason to stop: the
// generation decides whose token is stored.
func (s *Store) renew(ctx context.Context, lease *state.Lease) {
	tick := time.NewTicker(leaseTime / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := lease.Renew(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("refresh lease not renewed", telemetry.Error(err))
			}
		}
	}
}

// saveUnsaved stores the answer this process still has in hand, if any. It
// reports false if what is stored is somebody else's, or this answer already.
func (s *Store) saveUnsaved(ctx context.Context, realm string) (bool, error) {
	s.mu.Lock()
	a, ok := s.unsaved[realm]
	s.mu.Unlock()
	if !ok {
		return false, nil
	}
	sealed, err := s.keys.Load().sealToken(realm, a.token)
	if err != nil {
		return false, fmt.Errorf("store the token of realm %s: %w", realm, err)
	}
	// A caller that gives up now must not take the token with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.saveFor)
	defer cancel()
	var first bool
	if err := untilStored(ctx, func() (err error) { first, err = s.persist(ctx, realm, a, sealed); return err }); err != nil {
		s.log.Error("new token not stored; kept in memory", telemetry.Realm(realm), telemetry.Error(err))
		return false, fmt.Errorf("store the token of realm %s: %w", realm, err)
	}
	s.saved(realm)
	s.index(ctx, realm)
	return first, nil
}

func (s *Store) persist(ctx context.Context, realm string, a answer, sealed string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return persistScript.Run(ctx, s.db, []string{connKey(realm)}, a.generation, sealed, a.from, s.stamp()).Bool()
}

func (s *Store) keepUnsaved(realm string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved[realm] = a
}

func (s *Store) hasUnsaved(realm string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.unsaved[realm]
	return ok
}

// stored notes that Redis has a token whose refresh does not know that yet. Until it does,
// Token waits for that refresh, which returns the same token.
func (s *Store) stored(realm string, token secret.String) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved[realm].token.Access == token {
		delete(s.unsaved, realm)
	}
}

func (s *Store) saved(realm string) {
	s.mu.Lock()
	delete(s.unsaved, realm)
	s.mu.Unlock()
	s.forgetKnown(realm)
	s.log.Debug("token refreshed", telemetry.Realm(realm))
}
