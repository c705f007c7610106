package processor

import (
	"context"
	"slices"
	"sync"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// customFields remembers which realms are known to have custom fields that CDC may leave
// out of its documents, and where CDC shows them. Redis keeps it for all replicas; here
// it saves writing the same again.
type customFields struct{ enhanced, cdc sync.Map }

// cdcIsWhole reports whether a document of CDC holds all there is of a record. If that
// cannot be told, a Query is asked, which always shows all.
func (p *Processor) cdcIsWhole(ctx context.Context, realm string) bool {
	if _, ok := p.fields.cdc.Load(realm); ok {
		return true
	}
	if _, ok := p.fields.enhanced.Load(realm); ok {
		// Another replica may have learned that CDC shows them: that saves calls only.
		return false
	}
	known, err := p.state.CustomFields(ctx, realm)
	return err == nil && known.Whole()
}

// foundFields notes what an answer shows of custom fields. If that is not recorded, the
// next record tells.
func (p *Processor) foundFields(ctx context.Context, realm string, items []qbo.Entity, byCDC bool) {
	noted, note, tells := &p.fields.enhanced, p.state.NoteEnhancedFields, qbo.HasEnhancedFields
	if byCDC {
		noted, note, tells = &p.fields.cdc, p.state.NoteCDCFields, qbo.ShowsAllFields
	}
	if _, ok := noted.Load(realm); ok {
		return
	}
	if !slices.ContainsFunc(items, func(e qbo.Entity) bool { return tells(e.Raw) }) {
		return
	}
	if err := note(ctx, realm); err != nil {
		p.log.Debug("custom fields not recorded", telemetry.Realm(realm), telemetry.Error(err))
		return
	}
	noted.Store(realm, true)
}
