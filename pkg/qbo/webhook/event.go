package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// operationOf reads an operation as either format spells it; one it does not
// know keeps its name. The portal lists "void", many integrations "voided".
func operationOf(name string) (ledgerfeedv1.Operation, string) {
	switch strings.ToLower(name) {
	case "create", "created":
		return ledgerfeedv1.Operation_OPERATION_CREATE, ""
	case "update", "updated":
		return ledgerfeedv1.Operation_OPERATION_UPDATE, ""
	case "delete", "deleted":
		return ledgerfeedv1.Operation_OPERATION_DELETE, ""
	case "merge", "merged":
		return ledgerfeedv1.Operation_OPERATION_MERGE, ""
	case "void", "voided":
		return ledgerfeedv1.Operation_OPERATION_VOID, ""
	case "email", "emailed":
		return ledgerfeedv1.Operation_OPERATION_EMAILED, ""
	}
	return ledgerfeedv1.Operation_OPERATION_UNSPECIFIED, name
}

// isDeletedID knows the id that was merged away by Intuit's three spellings:
// deletedID in the documentation, deletedId in the SDKs, deletedid in CloudEvents.
func isDeletedID(name string) bool { return strings.EqualFold(name, "deletedid") }

// deletedIn looks for the merged id in a data object; data is otherwise opaque.
func (it *item) deletedIn(data value) {
	for name, v := range data.members() {
		if isDeletedID(name) {
			it.hint(&it.merged, v)
		}
	}
}

// mergedID returns the id that was merged away. Only a merge has one; an odd
// one counts as missing, for a scan finds the deletion too.
func mergedID(it *item) string {
	merge := it.event.Operation == ledgerfeedv1.Operation_OPERATION_MERGE
	if !merge || it.merged == it.event.EntityID || problem(it.merged) != "" {
		return ""
	}
	return it.merged
}

// derivedID names an event that came without an id: the same event, the same
// id. The fields hold no NUL, so the hash is over exactly one reading of them.
func derivedID(e *Event) string {
	at := ""
	if !e.OccurredAt.IsZero() {
		at = e.OccurredAt.Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{
		e.RealmID, e.Entity, e.EntityID, e.Operation.String(), e.OperationName, at, e.MergedID,
	}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func unprintable(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
