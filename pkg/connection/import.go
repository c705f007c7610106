package connection

import (
	"context"
	"fmt"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// UnstoredError is a new token that could not be stored. Intuit may take no other
// one: keep it somewhere. Its text holds no secret.
type UnstoredError struct {
	RealmID string
	Token   qbo.Token
	Err     error
}

// Error implements error.
func (e *UnstoredError) Error() string { return "the new token could not be stored: " + e.Err.Error() }

// Unwrap returns why.
func (e *UnstoredError) Unwrap() error { return e.Err }

// Import connects a realm with a refresh token that another program got. It trades
// the token for the next one, which proves it, stores that, and makes the realm due. No refresh of the
// realm is under way meanwhile. A token that Intuit does not take changes nothing
// and is qbo.ErrInvalidGrant; without Redis it is [ErrStore] before Intuit is asked; a new one that cannot be stored is in an
// [UnstoredError].
func (s *Store) Import(ctx context.Context, realm, app string, refresh secret.String) error {
	lease, err := s.waitForLease(ctx, realm)
	if err != nil {
		return fmt.Errorf("import the token of realm %s: %w: %w", realm, ErrStore, err)
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out in any case
	t, err := s.ask(ctx, lease, refresh)
	if err != nil {
		return fmt.Errorf("import the token of realm %s: %w", realm, err)
	}
	if t.Refresh == "" {
		t.Refresh = refresh
	}
	if err := s.Connect(ctx, realm, app, t); err != nil {
		return &UnstoredError{RealmID: realm, Token: t, Err: err}
	}
	s.ScanSoon(ctx, realm)
	return nil
}
