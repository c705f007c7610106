package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// operations are the names in the order of their frequency. The portal lists
// "void", many integrations "voided".
var operations = [...]struct {
	name string
	is   ledgerfeedv1.Operation
}{
	{"updated", ledgerfeedv1.Operation_OPERATION_UPDATE},
	{"created", ledgerfeedv1.Operation_OPERATION_CREATE},
	{"deleted", ledgerfeedv1.Operation_OPERATION_DELETE},
	{"update", ledgerfeedv1.Operation_OPERATION_UPDATE},
	{"create", ledgerfeedv1.Operation_OPERATION_CREATE},
	{"delete", ledgerfeedv1.Operation_OPERATION_DELETE},
	{"void", ledgerfeedv1.Operation_OPERATION_VOID},
	{"voided", ledgerfeedv1.Operation_OPERATION_VOID},
	{"emailed", ledgerfeedv1.Operation_OPERATION_EMAILED},
	{"email", ledgerfeedv1.Operation_OPERATION_EMAILED},
	{"merged", ledgerfeedv1.Operation_OPERATION_MERGE},
	{"merge", ledgerfeedv1.Operation_OPERATION_MERGE},
}

// operationOf reads an operation as either format spells it; one it does not
// know keeps its name.
func operationOf(name string) (is ledgerfeedv1.Operation, unknown string) {
	for _, o := range operations {
		if len(o.name) == len(name) && strings.EqualFold(o.name, name) {
			return o.is, ""
		}
	}
	return ledgerfeedv1.Operation_OPERATION_UNSPECIFIED, name
}

// isDeletedID knows the id that was merged away by Intuit's three spellings:
// deletedID in the documentation, deletedId in the SDKs, deletedid in CloudEvents.
func isDeletedID(name key) bool { return name.is("deletedid") }

// mergedID returns the id that was merged away into survivor: beside the other
// fields or in data, which is otherwise opaque. An odd one counts as missing,
// for a scan finds the deletion too.
func (r *reader) mergedID(raw value, survivor string) string {
	var merged string
	for name, v := range raw.members() {
		switch {
		case isDeletedID(name):
			r.hint(&merged, v)
		case name.is("data"):
			for name, v := range v.members() {
				if isDeletedID(name) {
					r.hint(&merged, v)
				}
			}
		}
	}
	if merged == survivor || problem(merged) != "" {
		return ""
	}
	return merged
}

// derivedSize is the length of an id that derive has made.
const derivedSize = 32

// Derived reports whether ID is a hash of the other fields: Intuit sent none, so that
// another event may have the same.
func (e Event) Derived() bool {
	if len(e.ID) != derivedSize {
		return false
	}
	var room [derivedSize]byte
	return e.ID == string(e.derive(room[:0]))
}

// derivedID names an event that came without an id: the same event, the same id.
func (r *reader) derivedID(e *Event) string {
	var room [derivedSize]byte
	return r.texts.keep(e.derive(room[:0]))
}

// derive appends the id. The fields hold no NUL, so the hash is over exactly one reading
// of them.
func (e *Event) derive(id []byte) []byte {
	var room [512]byte
	b := room[:0]
	for _, field := range [...]string{e.RealmID, e.Entity, e.EntityID, e.Operation.String(), e.OperationName} {
		b = append(append(b, field...), 0)
	}
	if !e.OccurredAt.IsZero() {
		b = e.OccurredAt.AppendFormat(b, time.RFC3339Nano)
	}
	b = append(append(b, 0), e.MergedID...)
	sum := sha256.Sum256(b)
	return hex.AppendEncode(id, sum[:derivedSize/2])
}
