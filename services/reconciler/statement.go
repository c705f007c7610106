package reconciler

import (
	"fmt"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// maxRows is the most rows Intuit returns for one Query.
const maxRows = 1000

// statement is a Query over one entity. Zero fields put no condition.
type statement struct {
	entity   string
	list     bool      // name list: inactive records are left out unless named
	inactive bool      // only those
	from, to time.Time // LastUpdatedTime from (inclusive) to (exclusive)
	ids      []string
	plain    bool // no condition on a property but Active, and no order
	start    int  // from 1
	rows     int
}

func (q statement) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT * FROM %s%s", q.entity, q.where())
	if !q.plain {
		b.WriteString(" ORDERBY MetaData.LastUpdatedTime ASC")
	}
	fmt.Fprintf(&b, " STARTPOSITION %d MAXRESULTS %d", max(q.start, 1), q.rows)
	return b.String()
}

func (q statement) count() string {
	return "SELECT COUNT(*) FROM " + q.entity + q.where()
}

func (q statement) where() string {
	var all []string
	and := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if q.list {
		and("Active IN (true, false)")
	}
	if q.inactive {
		and("Active = false")
	}
	if !q.from.IsZero() {
		and("MetaData.LastUpdatedTime >= %s", qbo.Quote(qbo.FormatTime(q.from)))
	}
	if !q.to.IsZero() {
		and("MetaData.LastUpdatedTime < %s", qbo.Quote(qbo.FormatTime(q.to)))
	}
	if len(q.ids) > 0 {
		and("%s", qbo.WithIDs(q.entity, q.ids))
	}
	if len(all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(all, " AND ")
}
