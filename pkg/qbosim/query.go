package qbosim

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxStatement is the longest statement a POST may bring.
const maxStatement = 64 << 10

func (s *Sim) serveQuery(c *call) ([]byte, *fault) {
	statement, f := statementOf(c)
	if f != nil {
		return nil, f
	}
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	answer, f := c.queryLocked(now, statement)
	if f != nil {
		return nil, f
	}
	return fmt.Appendf(nil, `{"QueryResponse":%s,"time":%q}`, answer, s.clockText(c, now)), nil
}

func statementOf(c *call) (string, *fault) {
	if c.Method == http.MethodGet {
		statement := c.URL.Query().Get("query")
		if statement == "" {
			return "", missingParameter("query")
		}
		return statement, nil
	}
	if kind, _, _ := strings.Cut(c.Header.Get("Content-Type"), ";"); kind != "application/text" {
		return "", &fault{http.StatusUnsupportedMediaType, "ValidationFault", "2010", "Request has invalid or unsupported property", "Content-Type: use application/text"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, c.Body, maxStatement))
	if err != nil {
		return "", unreadableQuery("the statement is too long")
	}
	return string(body), nil
}

// queryLocked is the QueryResponse object.
func (c *call) queryLocked(now time.Time, statement string) ([]byte, *fault) {
	sel, f := parseQuery(statement)
	if f != nil {
		return nil, f
	}
	if f := c.refused(sel.info.Name); f != nil {
		return nil, f
	}
	if f := c.unfilterable(sel); f != nil {
		return nil, f
	}
	t := c.realm.tables[sel.info.Name]
	if t == nil {
		t = &table{info: sel.info}
	}
	asOf := c.asOf(now)
	sel.hides = c.hidden
	if sel.count {
		n := 0
		for range sel.rows(t, asOf) {
			n++
		}
		return fmt.Appendf(nil, `{"totalCount":%d}`, n), nil
	}
	var found [][]byte
	for r := range sel.page(t, asOf) {
		if c.poisoned(sel.info.Name, r.record.id) {
			return nil, poisoned()
		}
		found = append(found, c.shown(r.Raw, c.enhanced()))
	}
	if len(found) == 0 {
		return []byte(`{}`), nil
	}
	return fmt.Appendf(nil, `{%q:[%s],"startPosition":%d,"maxResults":%d}`,
		spelled(sel.info.Name), bytes.Join(found, []byte{','}), sel.start, len(found)), nil
}

// page are the rows from the start position on, in order. It stops at the last
// one where the order is one the table keeps.
func (sel *selection) page(t *table, asOf time.Time) iter.Seq[*row] {
	rows := sel.rows(t, asOf)
	if !sel.kept() {
		rows = sel.sorted(rows)
	}
	return func(yield func(*row) bool) {
		n := 0
		for r := range rows {
			n++
			if n < sel.start {
				continue
			}
			if !yield(r) || n == sel.start+sel.max-1 {
				return
			}
		}
	}
}

// kept says that the source of the rows has the wanted order: by id, or by
// LastUpdatedTime. Ties keep the order of the writes.
func (sel *selection) kept() bool {
	_, named := sel.ids()
	_, _, byTime := sel.byTime()
	switch sel.orderBy.name {
	case "", fieldID:
		return !byTime && (!named || !sel.desc)
	case fieldUpdated:
		return byTime
	}
	return false
}

func (sel *selection) sorted(rows iter.Seq[*row]) iter.Seq[*row] {
	by := sel.orderBy
	if by.kind == kindNone {
		by = field{name: fieldID, kind: kindID}
	}
	all := slices.Collect(rows)
	slices.SortStableFunc(all, func(a, b *row) int {
		left, _ := a.get(by)
		right, _ := b.get(by)
		if sel.desc {
			left, right = right, left
		}
		return by.compare(left, right)
	})
	return slices.Values(all)
}

// rows are the records that match, from the part of the table that can.
func (sel *selection) rows(t *table, asOf time.Time) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for rec, v := range sel.source(t, asOf) {
			r := &row{record: rec, version: v}
			if sel.hides != nil && sel.hides(sel.info.Name, rec.id) {
				continue
			}
			if sel.matches(r) && !yield(r) {
				return
			}
		}
	}
}

func (sel *selection) matches(r *row) bool {
	if r.Deleted {
		return false
	}
	asked := false // for inactive ones
	for _, c := range sel.where {
		asked = asked || c.field.name == fieldActive
		if !c.holds(r) {
			return false
		}
	}
	return asked || !r.Inactive
}

// source are the candidates at the states the API shows: the records named by
// id, the end of the log, or all.
func (sel *selection) source(t *table, asOf time.Time) iter.Seq2[*record, *version] {
	if ids, ok := sel.ids(); ok {
		return t.named(ids, asOf)
	}
	from, desc, byTime := sel.byTime()
	if !byTime {
		return t.all(asOf, sel.desc && sel.orderBy.name == fieldID)
	}
	return t.logFrom(from, asOf, desc)
}

// ids are those of an Id condition.
func (sel *selection) ids() ([]string, bool) {
	for _, c := range sel.where {
		if c.field.name == fieldID {
			var ids []string
			for _, v := range c.values {
				ids = append(ids, v.text)
			}
			slices.SortFunc(ids, func(a, b string) int { return c.field.compare(value{text: a}, value{text: b}) })
			return slices.Compact(ids), true
		}
	}
	return nil, false
}

// byTime says whether the log is the source, and from when on.
func (sel *selection) byTime() (from time.Time, desc, ok bool) {
	if _, named := sel.ids(); named {
		return from, false, false
	}
	ok = sel.orderBy.name == fieldUpdated
	for _, c := range sel.where {
		if c.field.name == fieldUpdated && len(c.values) == 1 && (c.op == ">" || c.op == ">=" || c.op == "=") {
			ok = true
			if at := c.values[0].time; at.After(from) {
				from = at
			}
		}
	}
	return from, sel.desc && sel.orderBy.name == fieldUpdated, ok
}

func (t *table) named(ids []string, asOf time.Time) iter.Seq2[*record, *version] {
	return func(yield func(*record, *version) bool) {
		for _, id := range ids {
			rec := t.records[id]
			if rec == nil {
				continue
			}
			if v := rec.asOf(asOf); v != nil && !yield(rec, v) {
				return
			}
		}
	}
}

func (t *table) all(asOf time.Time, desc bool) iter.Seq2[*record, *version] {
	return func(yield func(*record, *version) bool) {
		for i := range t.order {
			rec := t.order[i]
			if desc {
				rec = t.order[len(t.order)-1-i]
			}
			if v := rec.asOf(asOf); v != nil && !yield(rec, v) {
				return
			}
		}
	}
}

func (t *table) logFrom(from, asOf time.Time, desc bool) iter.Seq2[*record, *version] {
	return func(yield func(*record, *version) bool) {
		log := t.since(from)
		for i := range log {
			l := log[i]
			if desc {
				l = log[len(log)-1-i]
			}
			if l.currentAsOf(asOf) && !yield(l.record, l.state()) {
				return
			}
		}
	}
}
