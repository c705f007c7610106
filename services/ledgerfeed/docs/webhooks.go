package docs

import (
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

const eventTypesIntro = `
<!-- Made from pkg/qbo/entity by make generate; do not edit. -->

The event types that Intuit's portal offers. An event's type is ` + "`qbo.ENTITY.OPERATION.v1`" + ` with the
entity in lower case (` + "`qbo.creditmemo.void.v1`" + `); the legacy format writes name and operation as in
the table (` + "`CreditMemo`, `Void`" + `). A type that is not in the table is accepted under its own name.

Source: the subscription page of the portal, as ballerina-platform/asyncapi-triggers lists it (pull
request 193; ` + "`pkg/qbo/entity/testdata/portal_108.txt`" + `): 31 entities. Intuit's documentation
("configure-webhooks") has 101 types of 29 entities; it lacks ChangeOrder, CompanyCurrency, and
Delete for Currency. No captured delivery shows whether Intuit writes ` + "`void` or `voided`" + `: both are
read.

`

// operation is a column of the table: how the legacy format and how CloudEvents
// spell it.
type operation struct{ legacy, event string }

var operations = [...]operation{
	{"Create", "created"}, {"Update", "updated"}, {"Delete", "deleted"}, {"Merge", "merged"}, {"Void", "void"}, {"Emailed", "emailed"},
}

// EventTypesHeading is the heading of EventTypes in docs/webhooks.md.
const EventTypesHeading = "## The 108 event types\n"

// EventTypes is a section of docs/webhooks.md: what the table of entities says
// of webhooks.
func EventTypes() string {
	var b strings.Builder
	b.WriteString(EventTypesHeading + eventTypesIntro + "| name | entity in a type |")
	for _, o := range operations {
		fmt.Fprintf(&b, " %s<br>`%s` |", o.legacy, o.event)
	}
	b.WriteString("\n|---|---|" + strings.Repeat(":-:|", len(operations)) + "\n")
	counts := map[string]int{}
	entities, total := 0, 0
	for _, info := range entity.All() {
		if len(info.Operations) == 0 {
			continue
		}
		entities++
		offered := map[string]bool{}
		for _, name := range info.Operations {
			offered[name] = true
			counts[name]++
			total++
		}
		fmt.Fprintf(&b, "| %s | `%s` |", info.Name, strings.ToLower(info.Name))
		for _, o := range operations {
			fmt.Fprintf(&b, " %s |", map[bool]string{true: "✓"}[offered[o.legacy]])
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "| **%d entities** | **%d types** |", entities, total)
	for _, o := range operations {
		fmt.Fprintf(&b, " %d |", counts[o.legacy])
	}
	return b.String() + "\n"
}
