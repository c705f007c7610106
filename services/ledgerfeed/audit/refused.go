package audit

import (
	"context"
	"errors"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// unavailable reports whether a company's QuickBooks is without an entity: the response
// says so, or scans have concluded it from such responses.
func (a *auditor) unavailable(ctx context.Context, realm, name string, err error) bool {
	var fault *qbo.Fault
	switch {
	case !errors.As(err, &fault) || errors.Is(err, qbo.ErrThrottled) || qbo.MeaningOf(err) == qbo.MeaningFilterUnsupported:
		return false
	case qbo.MeaningOf(err) == qbo.MeaningEntityUnavailable || errors.Is(err, qbo.ErrInvalidQuery):
		return true
	}
	all, _ := a.o.State.Refusals(ctx, realm) // else the verdict is Incomplete
	for _, r := range all {
		if r.Entity == name && r.Way == state.RefusedByQuery && r.Lasting {
			return true
		}
	}
	return false
}
