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
	info, ok := entity.Lookup(name)
	if !ok || name != strings.ToLower(name) {
		return nil, &fault{400, "ValidationFault", "500", "Unsupported Operation", "Operation " + name + " is not supported."}
	}
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	var shown *version
	if t := c.realm.tables[info.Name]; t != nil && t.records[c.PathValue("id")] != nil {
		shown = t.records[c.PathValue("id")].asOf(now.Add(-c.faults.ReadLag))
	}
	switch {
	case shown == nil || shown.Deleted:
		return nil, notFound()
	case c.poisoned(info.Name, c.PathValue("id")):
		return nil, poisoned()
	}
	return fmt.Appendf(nil, `{%q:%s,"time":%q}`, info.Name, shown.Raw, s.clockText(c, now)), nil
}
