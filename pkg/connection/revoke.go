package connection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Revoker ends a connection at Intuit by one of its tokens. *qbo.OAuth is one.
type Revoker interface {
	Revoke(ctx context.Context, token secret.String) error
}

// OwnerEnds says how a company's owner ends an authorisation that we cannot end.
const OwnerEnds = "its owner ends it in QuickBooks: Apps, My apps, then Disconnect at this app"

// unconfirmed is added to the reason of a realm whose tokens Intuit does not know.
const unconfirmed = "; Intuit knows none of its tokens (400), so that the authorisation may still be active: " + OwnerEnds

// Revoke ends a realm's authorisation at Intuit and then puts the realm into the
// state: [Disconnected] forgets its tokens, [ReauthRequired] waits for a person to
// connect it anew. Cursors and marks stay. No refresh is under way meanwhile. It reports
// whether Intuit has confirmed: it answers 400 to a token it does not know, to one that
// was revoked before, and to a request it does not understand, so that 400 to all of the
// realm's tokens says nothing about the authorisation, see [OwnerEnds]. After an error
// nothing is forgotten: call it again.
func (s *Store) Revoke(ctx context.Context, realm string, to State, reason string, by Revoker) (confirmed bool, err error) {
	lease, err := s.waitForLease(ctx, realm)
	if err != nil {
		return false, fmt.Errorf("revoke the token of realm %s: %w", realm, err)
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out in any case
	if _, err := s.saveUnsaved(ctx, realm); err != nil {
		return false, err
	}
	r, err := s.load(ctx, realm)
	if err != nil {
		return false, err
	}
	if r.Token.Refresh == "" && r.pending == "" && r.State == to {
		return r.revoked, nil // what is known of its end stays
	}
	if confirmed = r.revoked; !confirmed {
		if confirmed, err = s.revokeAny(ctx, lease, r, by); err != nil {
			return false, fmt.Errorf("realm %s: %w", realm, err)
		}
	}
	if confirmed {
		s.noteRevoked(ctx, r)
	} else {
		reason += unconfirmed
		s.log.Warn("revocation not confirmed, authorisation may be active", telemetry.Realm(realm), telemetry.App(r.App))
	}
	if _, err = s.setState(context.WithoutCancel(ctx), realm, "", to, reason); err != nil {
		return confirmed, fmt.Errorf("the token is revoked at Intuit: %w", err)
	}
	return confirmed, nil
}

// noteRevoked keeps what Intuit has confirmed: to the next request it answers 400.
func (s *Store) noteRevoked(ctx context.Context, r record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := s.db.HSet(ctx, connKey(r.RealmID), fieldRevoked, r.Generation).Err(); err != nil {
		s.log.Debug("revocation not recorded", telemetry.Realm(r.RealmID), telemetry.Error(err))
	}
}

// revoked reports whether the stored note is about the last token: its generation, to
// which a disconnect adds one.
func revoked(note string, c Connection) bool {
	generation, err := strconv.ParseInt(note, 10, 64)
	if c.State == Disconnected {
		generation++
	}
	return err == nil && generation == c.Generation
}

// revokeAny revokes by the first of the realm's tokens that Intuit knows. Each of them
// ends the authorisation: the refresh token, the access token, and the refresh token
// before it, whose successor may have been lost on the way.
func (s *Store) revokeAny(ctx context.Context, lease *state.Lease, r record, by Revoker) (bool, error) {
	tokens := []secret.String{r.Token.Refresh, r.Token.Access}
	if previous, err := s.keys.Load().openToken(r.RealmID, r.previous); err == nil {
		tokens = append(tokens, previous.Refresh)
	}
	if held, err := s.keys.Load().openToken(r.RealmID, r.pending); err == nil {
		tokens = append(tokens, held.Refresh)
	}
	for i, token := range tokens {
		if token == "" || slices.Contains(tokens[:i], token) {
			continue
		}
		err := s.revokeAtIntuit(ctx, lease, token, by)
		if err == nil {
			return true, nil
		}
		if !unknown(err) {
			return false, err
		}
		s.log.Info("token to revoke is unknown to intuit", telemetry.Realm(r.RealmID), telemetry.Count(i+1), telemetry.Error(err))
	}
	return false, nil
}

// revokeAtIntuit keeps the lease meanwhile.
func (s *Store) revokeAtIntuit(ctx context.Context, lease *state.Lease, token secret.String, by Revoker) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	var renewing sync.WaitGroup
	renewing.Go(func() { s.renew(ctx, lease) })
	err := by.Revoke(ctx, token)
	cancel()
	renewing.Wait()
	return err
}

// unknown reports whether Intuit may know nothing of the token.
func unknown(err error) bool {
	var refused *qbo.OAuthError
	return errors.As(err, &refused) && refused.Status == http.StatusBadRequest
}

// waitForLease takes the realm's lease as soon as it is free.
func (s *Store) waitForLease(ctx context.Context, realm string) (*state.Lease, error) {
	for {
		lease, err := s.state.Lease(ctx, leaseName(realm), leaseTime)
		if !errors.Is(err, state.ErrHeld) {
			return lease, err
		}
		if err := lifecycle.Sleep(ctx, lookAgain); err != nil {
			return nil, fmt.Errorf("wait for the refresh in progress: %w", err)
		}
	}
}
