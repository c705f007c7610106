package reconciler

import (
	"context"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Verdicts on a gap: why no webhook brought the change, as far as can be known.
const (
	// VerdictLost: webhooks of that kind do come, this one did not.
	VerdictLost = "lost"
	// VerdictBeforeConnection: Intuit sends none for what was before.
	VerdictBeforeConnection = "before-connection"
	// VerdictNotSelected: this realm's webhooks come, but never one for that
	// entity and kind of operation: it is probably not ticked in the portal.
	VerdictNotSelected = "not-selected"
	// VerdictNoWebhooks: Intuit offers none for the entity.
	VerdictNoWebhooks = "no-webhooks"
	// VerdictLapsed: the realm's authorisation had lapsed, so none were sent.
	VerdictLapsed = "authorisation-lapsed"
)

// heard is which webhooks a realm ever had, read once a scan and only if
// something is missing.
type heard struct {
	read    bool
	any     bool
	changed map[string]bool // entities of which a record was made or changed
	removed map[string]bool // entities of which a record was deleted or merged away
}

// verdict says why no webhook brought e.
func (s *scan) verdict(ctx context.Context, e *ledgerfeedv1.Event) string {
	info, known := entity.Lookup(e.GetEntity())
	if known && len(info.Operations) == 0 {
		return VerdictNoWebhooks
	}
	at := when(e)
	switch {
	case !at.IsZero() && at.Before(s.conn.ConnectedAt):
		return VerdictBeforeConnection
	case at.After(s.conn.LapsedAt) && at.Before(s.conn.ChangedAt) && !s.conn.LapsedAt.IsZero():
		return VerdictLapsed
	}
	s.listen(ctx)
	kind := s.heard.changed
	if e.GetOperation() == ledgerfeedv1.Operation_OPERATION_DELETE {
		kind = s.heard.removed
	}
	if s.heard.any && !kind[e.GetEntity()] {
		return VerdictNotSelected
	}
	return VerdictLost
}

// when is when the change happened; zero if QuickBooks does not say.
func when(e *ledgerfeedv1.Event) time.Time {
	if e.GetOccurredAt() == nil {
		return time.Time{}
	}
	return e.GetOccurredAt().AsTime()
}

// listen reads which webhooks the realm has had. If that fails, no gap of the
// scan is called unselected.
func (s *scan) listen(ctx context.Context) {
	if s.heard.read {
		return
	}
	seen, err := s.r.state.Freshness(ctx, s.realm)
	if err != nil {
		s.log.Warn("webhooks seen not read", telemetry.Error(err))
	}
	s.heard = heard{read: true, any: len(seen) > 0, changed: map[string]bool{}, removed: map[string]bool{}}
	for _, one := range seen {
		name := entity.Canonical(one.Entity)
		switch strings.ToLower(strings.TrimPrefix(one.Operation, "OPERATION_")) {
		case "delete":
			s.heard.removed[name] = true
		case "merge":
			s.heard.removed[name], s.heard.changed[name] = true, true
		default:
			s.heard.changed[name] = true
		}
	}
}
