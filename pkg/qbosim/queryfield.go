package qbosim

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

type fieldKind int

const (
	kindNone   fieldKind = iota
	kindID               // = and IN only; ordered as a number
	kindTime             // MetaData.…
	kindBool             // Active; = and IN only
	kindText             // dates too: theirs sort as text
	kindNumber           // amounts
)

type field struct {
	name string
	kind fieldKind
}

const (
	fieldID      = "Id"
	fieldActive  = "Active"
	fieldUpdated = "MetaData.LastUpdatedTime"
	fieldCreated = "MetaData.CreateTime"
)

// fieldsOf are the fields of an entity that may be compared and ordered by.
func fieldsOf(info entity.Info) map[string]fieldKind {
	f := map[string]fieldKind{fieldID: kindID, fieldUpdated: kindTime, fieldCreated: kindTime}
	add := func(kind fieldKind, names ...string) {
		for _, name := range names {
			f[name] = kind
		}
	}
	if info.Name == exchangeRate {
		delete(f, fieldID)
		add(kindText, "SourceCurrencyCode", "AsOfDate")
		return f
	}
	if hidesInactive(info) {
		add(kindBool, fieldActive)
	}
	if !info.List {
		add(kindText, "TxnDate", "DocNumber")
	}
	switch info.Name {
	case "Customer", "Vendor":
		add(kindText, "DisplayName", "GivenName", "FamilyName", "CompanyName", "PrintOnCheckName")
		add(kindNumber, "Balance")
	case "Item":
		add(kindText, "Name", "FullyQualifiedName", "Type")
		add(kindNumber, "UnitPrice")
	case "Invoice", "Bill":
		add(kindText, "DueDate")
		add(kindNumber, "TotalAmt", "Balance")
	case "TimeActivity":
	default:
		if info.List {
			add(kindText, "Name")
		} else {
			add(kindNumber, "TotalAmt")
		}
	}
	return f
}

// value is one operand, or what a record has in a field.
type value struct {
	text   string
	number float64
	time   time.Time
}

// value reads an operand as the field wants it.
func (f field) value(op string, t token) (value, *fault) {
	v := value{text: t.text}
	wrong := func() (value, *fault) {
		return v, invalidQuery("Invalid value %q for property %s with operator %s", t.text, f.name, op)
	}
	ordered := op != "=" && op != "IN"
	switch f.kind {
	case kindID:
		if t.kind != tokenText || ordered {
			return wrong()
		}
	case kindBool:
		v.text = strings.ToLower(t.text)
		if ordered || v.text != "true" && v.text != "false" {
			return wrong()
		}
	case kindTime:
		at, ok := parseTime(t.text)
		if !ok || t.kind != tokenText || op == "LIKE" {
			return wrong()
		}
		v.time = at
	case kindNumber:
		n, err := strconv.ParseFloat(t.text, 64)
		if err != nil || op == "LIKE" {
			return wrong()
		}
		v.number = n
	default:
		if t.kind != tokenText {
			return wrong()
		}
	}
	return v, nil
}

func (f field) compare(a, b value) int {
	switch f.kind {
	case kindID:
		return cmp.Or(cmp.Compare(len(a.text), len(b.text)), cmp.Compare(a.text, b.text))
	case kindTime:
		return a.time.Compare(b.time)
	case kindNumber:
		return cmp.Compare(a.number, b.number)
	}
	return cmp.Compare(a.text, b.text)
}

// row is a record at the state the API shows.
type row struct {
	record *record
	*version
	parsed map[string]json.RawMessage
}

// get is what the record has in a field; false if nothing.
func (r *row) get(f field) (value, bool) {
	switch f.name {
	case fieldID:
		return value{text: r.record.id}, true
	case fieldUpdated:
		return value{time: r.LastUpdated}, true
	case fieldCreated:
		return value{time: r.record.versions[0].LastUpdated}, true
	case fieldActive:
		return value{text: strconv.FormatBool(!r.Inactive)}, true
	}
	if r.parsed == nil {
		if err := json.Unmarshal(r.Raw, &r.parsed); err != nil {
			return value{}, false
		}
	}
	raw, ok := r.parsed[f.name]
	if !ok {
		return value{}, false
	}
	var v value
	var err error
	if f.kind == kindNumber {
		v.number, err = strconv.ParseFloat(string(raw), 64)
	} else {
		err = json.Unmarshal(raw, &v.text)
	}
	return v, err == nil
}

func (c condition) holds(r *row) bool {
	have, ok := r.get(c.field)
	if !ok {
		return false
	}
	for _, want := range c.values {
		order := c.field.compare(have, want)
		switch c.op {
		case "=", "IN":
			ok = order == 0
		case "<":
			ok = order < 0
		case ">":
			ok = order > 0
		case "<=":
			ok = order <= 0
		case ">=":
			ok = order >= 0
		case "LIKE":
			ok = like(have.text, want.text)
		}
		if ok {
			return true
		}
	}
	return false
}

// like matches % against any text, without regard to case.
func like(text, pattern string) bool {
	text = strings.ToLower(text)
	parts := strings.Split(strings.ToLower(pattern), "%")
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok || len(parts) == 1 {
		return ok && text == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
