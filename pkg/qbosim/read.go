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
	return fmt.Appendf(nil, `{%q:%s,"time":%q}`, info.Name, shown.Raw, s.clockText(c, now)), nil
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
	return fmt.Appendf(nil, `{"CompanyInfo":{"CompanyName":%q,"Country":"US","Id":"1","SyncToken":"0","MetaData":{"LastUpdatedTime":"2026-01-01T00:00:00Z"}},"time":%q}`,
		companyName(c.realm.id), s.clockText(c, s.clockLocked(c.realm))), nil
}

// companyName is what a person sees of a company.
func companyName(realm string) string { return "Simulated company " + realm }
