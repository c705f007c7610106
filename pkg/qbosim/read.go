package qbosim

import (
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// serveRead answers GET /v3/company/{realm}/invoice/{id}. Inactive records are
// shown, deleted ones are not found.
func (s *Sim) serveRead(c *call) ([]byte, *fault) {
	name := c.PathValue("entity")
	if f := c.refusedByRead(name); f != nil {
		return nil, f
	}
	if name == "companyinfo" {
		return s.serveCompany(c)
	}
	info, ok := entity.Lookup(name)
	if !ok || name != strings.ToLower(name) {
		return nil, &fault{400, "ValidationFault", "500", "Unsupported Operation", "Operation " + name + " is not supported."}
	}
	return s.showRecord(c, info, c.PathValue("id"))
}

func (s *Sim) showRecord(c *call, info entity.Info, id string) ([]byte, *fault) {
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	var shown *version
	if t := c.realm.tables[info.Name]; t != nil && t.records[id] != nil {
		shown = t.records[id].asOf(c.asOf(now))
	}
	switch {
	case shown == nil || shown.Deleted:
		return nil, notFound()
	case c.poisoned(info.Name, id):
		return nil, poisoned()
	}
	return fmt.Appendf(nil, `{%q:%s,"time":%q}`, spelled(info.Name), c.shown(shown.Raw, c.enhanced()), s.clockText(c, now)), nil
}

// serveRate answers GET /v3/company/{realm}/exchangerate?sourcecurrencycode=&asofdate=.
func (s *Sim) serveRate(c *call) ([]byte, *fault) {
	q := c.URL.Query()
	if q.Get("sourcecurrencycode") == "" {
		return nil, missingParameter("sourcecurrencycode")
	}
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	id := fields{"SourceCurrencyCode": q.Get("sourcecurrencycode"), "AsOfDate": q.Get("asofdate")}.rateKey()
	t := c.realm.tables[exchangeRate]
	if t == nil || t.records[id] == nil {
		return nil, notFound()
	}
	shown := t.records[id].asOf(c.asOf(now))
	if shown == nil {
		return nil, notFound()
	}
	return fmt.Appendf(nil, `{%q:%s,"time":%q}`, exchangeRate, shown.Raw, s.clockText(c, now)), nil
}

// preferencesID is that of a company's only record of preferences.
const preferencesID = "1"

// servePreferences answers GET /v3/company/{realm}/preferences, which names no id.
func (s *Sim) servePreferences(c *call) ([]byte, *fault) {
	if f := c.refused("Preferences"); f != nil {
		return nil, f
	}
	info, _ := entity.Lookup("Preferences")
	return s.showRecord(c, info, preferencesID)
}

// serveCompany answers GET /v3/company/{realm}/companyinfo/{realm}.
func (s *Sim) serveCompany(c *call) ([]byte, *fault) {
	if c.PathValue("id") != c.realm.id {
		return nil, notFound()
	}
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	if t := c.realm.tables["CompanyInfo"]; t != nil && t.records["1"] != nil {
		if v := t.records["1"].asOf(c.asOf(s.clockLocked(c.realm))); v != nil && !v.Deleted {
			return fmt.Appendf(nil, `{"CompanyInfo":%s,"time":%q}`, v.Raw, s.clockText(c, s.clockLocked(c.realm))), nil
		}
	}
	return fmt.Appendf(nil, `{"CompanyInfo":{"CompanyName":%q,"LegalName":%q,"Country":"US","FiscalYearStartMonth":"January","Id":"1","SyncToken":"0","MetaData":{"LastUpdatedTime":"2026-01-01T00:00:00-08:00"}},"time":%q}`,
		companyName(c.realm.id), companyName(c.realm.id)+" Inc", s.clockText(c, s.clockLocked(c.realm))), nil
}

// companyName is what a person sees of a company.
func companyName(realm string) string { return "Simulated company " + realm }
