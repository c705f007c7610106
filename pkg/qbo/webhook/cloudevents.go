package webhook

import (
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// cloudEvent reads one event of the present format. Attribute names are
// lower-case by the specification; any case is taken.
func (n *Notification) cloudEvent(v value) {
	if v.kind() != '{' {
		n.reject(v, "", "the event is not an object")
		return
	}
	var it item
	var typ string
	for name, attribute := range v.members() {
		switch {
		case strings.EqualFold(name, "id"):
			it.hint(&it.event.ID, attribute)
		case strings.EqualFold(name, "type"):
			it.need(&typ, "type", attribute)
		case strings.EqualFold(name, "intuitaccountid"):
			it.need(&it.event.RealmID, "intuitaccountid", attribute)
		case strings.EqualFold(name, "intuitentityid"):
			it.need(&it.event.EntityID, "intuitentityid", attribute)
		case strings.EqualFold(name, "time"):
			it.time(attribute)
		case strings.EqualFold(name, "data"):
			it.deletedIn(attribute)
		case isDeletedID(name):
			it.hint(&it.merged, attribute)
		}
	}
	it.readType(typ)
	n.add(&it, v)
}

// readType takes "qbo.creditmemo.created.v1" apart: namespace, entity,
// operation, version. The version may be missing.
func (it *item) readType(typ string) {
	if typ == "" {
		it.reject("type is missing")
		return
	}
	parts := strings.Split(typ, ".")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
		if parts[i] == "" {
			parts = nil
			break
		}
	}
	last := len(parts) - 1
	if last > 0 && isVersion(parts[last]) {
		last--
	}
	if last < 2 {
		it.reject("type has not the form namespace.entity.operation.version")
		return
	}
	it.operation = parts[last]
	it.event.Entity = strings.Join(parts[1:last], ".")
	if strings.EqualFold(parts[0], "qbo") {
		it.event.Entity = entity.Canonical(it.event.Entity)
	} else {
		// An "invoice" of another Intuit product is not QuickBooks' Invoice.
		it.event.Entity = parts[0] + "." + it.event.Entity
	}
}

// isVersion tells "v1" from an operation.
func isVersion(part string) bool {
	if len(part) < 2 || part[0]|0x20 != 'v' {
		return false
	}
	return strings.Trim(part[1:], "0123456789") == ""
}
