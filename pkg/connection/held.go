package connection

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// ErrNothingHeld: no consent of the realm waits for approval.
var ErrNothingHeld = errors.New("no consent waits for approval")

// Held is a consent that waits for a person's approval.
type Held struct {
	App string
	// At is when the consent was given; zero if none waits.
	At time.Time
}

// Waits reports whether there is one.
func (h Held) Waits() bool { return !h.At.IsZero() }

// heldKey is a set of the realms with a consent that waits. The records are the truth.
const heldKey = "lf:1:held"

var (
	//go:embed held.lua
	heldLua    string
	heldScript = redis.NewScript(state.ClockLua + heldLua)
	//go:embed release.lua
	releaseLua    string
	releaseScript = redis.NewScript(state.ClockLua + releaseLua)
)

// Hold stores the token of a consent until a person approves it ([Store.Approve]) or not
// ([Store.Reject]). A realm that has a connection keeps it meanwhile, of another nothing is
// read: it is [Pending]. As Connect it goes on for some seconds, also when ctx has ended. A
// later consent takes the place of one that waits.
func (s *Store) Hold(ctx context.Context, realm, app string, t qbo.Token) error {
	if realm == "" || t.Refresh == "" {
		return fmt.Errorf("hold the consent of realm %q: the realm's id and a refresh token are required", realm)
	}
	sealed, err := s.keys.Load().sealToken(realm, stored{t, s.now(), s.client()})
	if err != nil {
		return fmt.Errorf("hold the consent of realm %s: %w", realm, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.saveFor)
	defer cancel()
	if err := untilStored(ctx, func() error { return s.hold(ctx, realm, app, sealed) }); err != nil {
		return fmt.Errorf("hold the consent of realm %s: %w", realm, err)
	}
	s.forgetKnown(realm)
	s.foundAgain(ctx, realm)
	s.index(ctx, realm)
	s.log.Info("consent waits for approval", telemetry.Realm(realm), telemetry.App(app))
	return nil
}

func (s *Store) hold(ctx context.Context, realm, app, sealed string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The names first, as in connect.
	if err := s.db.SAdd(ctx, realmsKey, realm).Err(); err != nil {
		return err
	}
	if err := s.db.SAdd(ctx, heldKey, realm).Err(); err != nil {
		return err
	}
	return heldScript.Run(ctx, s.db, []string{connKey(realm)}, app, sealed, s.stamp()).Err()
}

// Approve connects a realm with the consent that waits, and makes it due. Without one the
// error is [ErrNothingHeld].
func (s *Store) Approve(ctx context.Context, realm string) error {
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	generation, err := connectScript.Run(called, s.db, []string{connKey(realm)}, "", "", s.stamp(), s.now().UnixMilli(), (s.saveFor + callTimeout).Milliseconds()).Int64()
	switch {
	case err != nil:
		return fmt.Errorf("approve realm %s: %w", realm, err)
	case generation < 0:
		return fmt.Errorf("approve realm %s: %w", realm, ErrNothingHeld)
	}
	s.connected(ctx, realm)
	s.log.Info("consent approved", telemetry.Realm(realm))
	s.ScanSoon(ctx, realm)
	return nil
}

// Reject gives the consent that waits back to Intuit and forgets it. A realm that has a
// connection keeps it; its token is checked soon, should Intuit have ended both. It
// reports whether Intuit has confirmed, as Revoke does; after an error the consent waits
// on.
func (s *Store) Reject(ctx context.Context, realm string, by Revoker) (confirmed bool, err error) {
	r, err := s.load(ctx, realm)
	if err != nil && r.RealmID == "" {
		return false, err
	}
	if r.pending == "" {
		return false, fmt.Errorf("reject realm %s: %w", realm, ErrNothingHeld)
	}
	held, err := s.keys.Load().openToken(realm, r.pending)
	if err != nil {
		return false, fmt.Errorf("reject realm %s: %w", realm, err)
	}
	if err := by.Revoke(ctx, held.Refresh); err != nil && !unknown(err) {
		return false, fmt.Errorf("reject realm %s: %w", realm, err)
	} else if err == nil {
		confirmed = true
	}
	called, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	released, err := releaseScript.Run(called, s.db, []string{connKey(realm)}, r.pending, "its consent was not approved", s.stamp()).Bool()
	if err != nil {
		return confirmed, fmt.Errorf("reject realm %s: %w", realm, err)
	}
	s.forgetKnown(realm)
	if released {
		s.unlistHeld(ctx, realm)
	}
	s.index(ctx, realm)
	s.log.Info("consent rejected", telemetry.Realm(realm))
	return confirmed, s.CheckSoon(ctx, realm)
}

// Waiting returns the realms with a consent that waits for approval, sorted.
func (s *Store) Waiting(ctx context.Context) (realms []string, err error) {
	called, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	listed, err := s.db.SMembers(called, heldKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list pending consents: %w", err)
	}
	slices.Sort(listed)
	for _, realm := range listed {
		there, err := s.db.HExists(called, connKey(realm), fieldPending).Result()
		if err != nil {
			return nil, fmt.Errorf("list pending consents: %w", err)
		}
		if there {
			realms = append(realms, realm)
		}
	}
	return realms, nil
}

// unlistHeld takes a realm off the list of those that wait. If Redis does not take it, the
// record tells.
func (s *Store) unlistHeld(ctx context.Context, realm string) {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.SRem(within, heldKey, realm).Err(); err != nil {
		s.log.Debug("realm still listed as waiting for approval", telemetry.Realm(realm), telemetry.Error(err))
	}
}
