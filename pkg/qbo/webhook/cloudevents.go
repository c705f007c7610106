package webhook

import (
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// item reads one event of the present format, or an object of the older one, and
// says whether it looked like either. Attribute names are lower-case by the
// specification; any case is taken.
func (r *reader) item() (known bool) {
	if r.peek() != '{' {
		r.reject(r.value(), "", "the event is not an object")
		return false
	}
	var it item
	var typ string
	legacy, start := false, r.at
	for r.open(); r.more('}'); {
		switch name, v := r.member(); {
		case name.is("id"):
			r.hint(&it.event.ID, v)
		case name.is("type"):
			known = true
			r.need(&it, &typ, "type", v)
		case name.is("intuitaccountid"):
			r.need(&it, &it.event.RealmID, "intuitaccountid", v)
		case name.is("intuitentityid"):
			r.need(&it, &it.event.EntityID, "intuitentityid", v)
		case name.is("time"):
			it.time(v)
		case name.is("specversion"):
			known = true
		case name.is("eventNotifications"):
			legacy = true
		}
	}
	raw := value(r.text[start:r.at])
	if legacy {
		r.legacy(raw)
		return true
	}
	it.readType(typ)
	r.add(&it, raw)
	return known
}

// readType takes "qbo.creditmemo.created.v1" apart: namespace, entity,
// operation, version. The version may be missing.
func (it *item) readType(typ string) {
	if typ == "" {
		it.reject("type is missing")
		return
	}
	namespace, name, operation, ok := cutType(typ)
	if !ok {
		it.reject("type has not the form namespace.entity.operation.version")
		return
	}
	it.operation = operation
	if strings.EqualFold(namespace, "qbo") {
		it.event.Entity = entity.Canonical(name)
	} else {
		// An "invoice" of another Intuit product is not QuickBooks' Invoice.
		it.event.Entity = namespace + "." + name
	}
}

// cutType returns the parts of a type; none of them may be empty.
func cutType(typ string) (namespace, name, operation string, ok bool) {
	typ = trimParts(typ)
	if typ[0] == '.' || typ[len(typ)-1] == '.' || strings.Contains(typ, "..") {
		return "", "", "", false
	}
	rest, last := cutLast(typ)
	if isVersion(last) {
		rest, last = cutLast(rest)
	}
	namespace, name, ok = strings.Cut(rest, ".")
	return namespace, name, last, ok
}

func trimParts(typ string) string {
	if isPlain(typ) && !strings.Contains(typ, " ") {
		return typ
	}
	parts := strings.Split(typ, ".")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.Join(parts, ".")
}

func cutLast(typ string) (rest, last string) {
	i := strings.LastIndexByte(typ, '.')
	return typ[:max(i, 0)], typ[i+1:]
}

// isVersion tells "v1" from an operation.
func isVersion(part string) bool {
	if len(part) < 2 || part[0]|0x20 != 'v' {
		return false
	}
	for i := range len(part) - 1 {
		if !isDigit(part[i+1]) {
			return false
		}
	}
	return true
}
