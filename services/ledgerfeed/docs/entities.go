package docs

import (
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// EntitiesHeading is the heading of Entities in docs/entities.md.
const EntitiesHeading = "## The entities\n"

// Entities is a section of docs/entities.md: what the table of entities says of how
// their changes and deletions are found.
func Entities() string {
	var b strings.Builder
	b.WriteString(EntitiesHeading + "\n<!-- Made from pkg/qbo/entity by make generate; do not edit. -->\n\n")
	b.WriteString("| entity | webhooks | changes found by | deletions found by | key |\n|---|---|---|---|---|\n")
	n := 0
	for _, info := range entity.All() {
		if !info.Query {
			continue
		}
		n++
		webhooks := strings.ToLower(strings.Join(info.Operations, ", "))
		if webhooks == "" {
			webhooks = "none"
		}
		found, gone := "Query", "sweep"
		if info.CDC {
			found, gone = "CDC", "CDC, count"
		}
		if info.Lasting {
			gone = "never deleted"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", info.Name, webhooks, found, gone, keyOf(info))
	}
	fmt.Fprintf(&b, "| **%d entities** | | | | |\n", n)
	return b.String()
}

func keyOf(info entity.Info) string {
	switch {
	case info.Name == "RecurringTransaction":
		return "`Id` of the transaction inside"
	case info.Lasting:
		return "currency and date: `EUR-2026-11-30`"
	}
	return "`Id`"
}
