package connection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// Revoke ends a realm's authorisation at Intuit and then puts the realm into the
// state: [Disconnected] forgets its tokens, [ReauthRequired] waits for a person to
// connect it anew. Cursors and marks stay. No refresh is under way meanwhile. A
// token that Intuit does not know any more counts as revoked. After an error
// nothing is forgotten: call it again.
func (s *Store) Revoke(ctx context.Context, realm string, to State, reason string, by Revoker) error {
	lease, err := s.waitForLease(ctx, realm)
	if err != nil {
		return fmt.Errorf("revoke the token of realm %s: %w", realm, err)
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out in any case
	if _, err := s.saveUnsaved(ctx, realm); err != nil {
		return err
	}
	r, err := s.load(ctx, realm)
	if err != nil {
		return err
	}
	if token := r.Token.Refresh; token != "" {
		err := s.revokeAtIntuit(ctx, lease, token, by)
		if unknown(err) {
			s.log.Info("token was revoked before", telemetry.Realm(realm))
			err = nil
		}
		if err != nil {
			return fmt.Errorf("realm %s: %w", realm, err)
		}
	}
	_, err = s.setState(context.WithoutCancel(ctx), realm, "", to, reason)
	if err != nil {
		return fmt.Errorf("the token is revoked at Intuit: %w", err)
	}
	return nil
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

// unknown reports whether Intuit knows nothing of the token.
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
			return nil, fmt.Errorf("wait for a refresh that is under way: %w", err)
		}
	}
}
