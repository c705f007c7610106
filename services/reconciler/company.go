package reconciler

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	companyInfo = "CompanyInfo"
	preferences = "Preferences"
)

// companyName is for the log; empty if it is not known.
func (r *Reconciler) companyName(ctx context.Context, realm string) string {
	names, err := r.state.CompanyNames(ctx, []string{realm})
	if err != nil {
		r.log.Debug("company not read", telemetry.Realm(realm), telemetry.Error(err))
	}
	return names[realm]
}

// noteCompany records what records of CompanyInfo and Preferences say of the company,
// wherever a scan meets them. People read it; a scan does not fail for it.
func (s *scan) noteCompany(ctx context.Context, items []qbo.Entity) {
	for _, item := range items {
		c := state.Company{Realm: s.realm, ReadAt: s.r.now()}
		var err error
		switch {
		case item.Deleted:
			continue
		case item.Name == companyInfo:
			var info qbo.CompanyInfo
			info, err = qbo.ParseCompanyInfo(item.Raw)
			c.Name, c.LegalName, c.Country = info.Name, info.LegalName, info.Country
			c.FiscalYearStart, c.TimeZoneOffset = info.FiscalYearStart, info.TimeZoneOffset
		case item.Name == preferences:
			c.HomeCurrency, err = qbo.ParseHomeCurrency(item.Raw)
		default:
			return // items are of one entity
		}
		if err == nil {
			err = s.r.state.SetCompany(ctx, c)
		}
		if err != nil {
			s.log.Debug("company not recorded", telemetry.Error(err))
		}
	}
}

// refreshCompany reads CompanyInfo where no scan has met it for an interval: one call at
// most in that time, whatever comes of it. Preferences have their turn while they are all
// that is missing.
func (s *scan) refreshCompany(ctx context.Context, o order) {
	every := s.r.config.RefreshCompany
	// A recovery is of many companies at once: it leaves this to the days that follow.
	if every == 0 || o.entities != nil || o.recovery || ctx.Err() != nil {
		return
	}
	known, err := s.r.state.Companies(ctx, []string{s.realm})
	if err != nil {
		s.log.Debug("company not read", telemetry.Error(err))
		return
	}
	c, now := known[0], s.r.now()
	name := companyInfo
	switch age := now.Sub(c.ReadAt); {
	case now.Sub(c.Asked) < every:
		return
	case c.Name == "":
	case c.HomeCurrency == "" && age < 2*every:
		name = preferences
	case age < every:
		return
	}
	// Before the call: one that fails has had its turn.
	if err := s.r.state.SetCompanyAsked(ctx, s.realm, now); err != nil {
		s.log.Debug("company not read", telemetry.Error(err))
		return
	}
	e, _, err := s.client.Read(ctx, s.realm, name, "")
	s.called("read", err)
	if err != nil {
		s.log.Debug("company not read", telemetry.Entity(name), telemetry.Error(err))
		return
	}
	s.noteCompany(ctx, []qbo.Entity{e})
}
