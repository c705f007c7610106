package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// admit returns nil if the realm may be scanned now. A realm that is not live, and one
// that Intuit refuses, is parked: the error says why.
func (r *Reconciler) admit(ctx context.Context, conn connection.Connection) error {
	if !conn.State.Refused() && conn.State != connection.Live {
		return fmt.Errorf("%w: %w", errParked, conn.Unusable())
	}
	return parkedBy(r.guard.Admit(ctx, conn.RealmID))
}

// refusedWhole replaces the error of a scan if Intuit refuses the realm or the app as a
// whole, or may.
func (r *Reconciler) refusedWhole(ctx context.Context, realm string, err error) error {
	switch qbo.MeaningOf(err) {
	case qbo.MeaningCompanyAccess, qbo.MeaningAppProblem, qbo.MeaningTokenProblem:
	default:
		return err
	}
	if refused := r.guard.Refused(ctx, realm, "", err); errors.Is(refused, access.ErrWait) {
		return parkedBy(refused)
	}
	return err
}

// parkedBy tells a realm that Intuit refuses from one of which that is not known yet.
func parkedBy(err error) error {
	if errors.Is(err, connection.ErrRefused) || lapsed(err) {
		return fmt.Errorf("%w: %w", errParked, err)
	}
	return err
}

// waits is how long to leave a realm alone that cannot be read now, if that is it.
func waits(err error) (time.Duration, bool) {
	if after, held := connection.RetryAfter(err); held {
		return after, true
	}
	var wait *access.WaitError
	if !errors.As(err, &wait) || wait.State.Refused() {
		return 0, false
	}
	return wait.After, true
}
