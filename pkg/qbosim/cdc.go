package qbosim

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

const (
	cdcLookBack = 30 * 24 * time.Hour
	cdcMax      = 1000 // objects in an answer, over all entities
)

func (s *Sim) serveCDC(c *call) ([]byte, *fault) {
	q := c.URL.Query()
	c.realm.mu.RLock()
	defer c.realm.mu.RUnlock()
	now := s.clockLocked(c.realm)
	blocks, f := s.cdcLocked(c, now, q.Get("entities"), q.Get("changedSince"))
	if f != nil {
		return nil, f
	}
	return fmt.Appendf(nil, `{"CDCResponse":%s,"time":%q}`, blocks, s.clockText(c, now)), nil
}

// cdcLocked is the array of a CDCResponse: one object per entity, in no
// particular order, {} for those without a change.
func (s *Sim) cdcLocked(c *call, now time.Time, entities, changedSince string) ([]byte, *fault) {
	if s.cdcFields == CDCFieldsRefused && c.enhanced() {
		return nil, unknownInclude()
	}
	asked, f := cdcEntities(entities)
	if f != nil {
		return nil, f
	}
	since, f := parseSince(changedSince, now)
	if f != nil {
		return nil, f
	}
	for _, info := range asked {
		if f := c.refused(info.Name); f != nil {
			return nil, f
		}
	}
	c.rng.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	asOf, left := c.asOf(now), cdcMax
	// Which objects the cut keeps is not documented: the oldest or the newest.
	newest := chance(c.rng, 0.5)
	var b bytes.Buffer
	b.WriteString(`[{"QueryResponse":[`)
	for i, info := range asked {
		if i > 0 {
			b.WriteByte(',')
		}
		found, active, f := s.changedLocked(c, info, since, asOf, left, newest)
		if f != nil {
			return nil, f
		}
		left -= len(found)
		c.writeBlock(&b, info.Name, found, active)
	}
	b.WriteString(`]}]`)
	return b.Bytes(), nil
}

// changedLocked is at most max records that changed, each at the state the API
// shows. Deleted ones come last, after the active ones: a cut loses them first.
func (s *Sim) changedLocked(c *call, info entity.Info, since, asOf time.Time, max int, newest bool) (found [][]byte, active int, f *fault) {
	t := c.realm.tables[info.Name]
	if t == nil {
		return nil, 0, nil
	}
	changed := t.since(since)
	for _, deleted := range []bool{false, true} {
		for i := range changed {
			if len(found) == max {
				break
			}
			l := changed[i]
			if newest {
				l = changed[len(changed)-1-i]
			}
			if l.state().Deleted != deleted || !l.currentAsOf(asOf) {
				continue
			}
			if c.poisoned(info.Name, l.record.id) {
				return nil, 0, poisoned()
			}
			found = append(found, s.shownByCDC(c, info, l))
			if !deleted {
				active++
			}
		}
	}
	return found, active, nil
}

// shownByCDC is the object of a record. Whether a deleted one has MetaData is
// drawn for the record, not for the call.
func (s *Sim) shownByCDC(c *call, info entity.Info, l logged) []byte {
	bare := c.faults.BareDeletes
	if !l.state().Deleted || bare == 0 || !chance(s.draw("bare", c.realm.nth, info.Name, l.record.id), bare) {
		return c.shown(l.state().Raw, s.cdcFields == CDCFieldsAll && c.enhanced())
	}
	return fmt.Appendf(nil, `{"domain":"QBO","status":"Deleted","Id":%q}`, l.record.id)
}

// writeBlock writes the changes of an entity. A block of deleted objects alone says no
// startPosition (intuit/QuickBooks-V3-PHP-SDK#116, #431).
func (c *call) writeBlock(b *bytes.Buffer, name string, found [][]byte, active int) {
	if len(found) == 0 {
		b.WriteString(`{}`)
		return
	}
	fmt.Fprintf(b, `{%q:[`, name)
	b.Write(bytes.Join(found, []byte{','}))
	b.WriteByte(']')
	start, total := chance(c.rng, 0.75), chance(c.rng, 0.25)
	switch {
	case active == 0:
		total = true
		fmt.Fprintf(b, `,"maxResults":%d`, len(found))
	case start:
		fmt.Fprintf(b, `,"startPosition":1,"maxResults":%d`, len(found))
	}
	if total {
		fmt.Fprintf(b, `,"totalCount":%d`, len(found))
	}
	b.WriteByte('}')
}

// hidden reports whether Query must not show a record.
func (c *call) hidden(name, id string) bool {
	return len(c.faults.hidden) > 0 && c.faults.hidden[Ref{Realm: c.realm.id, Entity: name, ID: id}]
}

func (c *call) poisoned(name, id string) bool {
	return len(c.faults.poison) > 0 && c.faults.poison[Ref{Realm: c.realm.id, Entity: name, ID: id}]
}

// clockText is the time of a CDC or Query answer: with the offset of the day,
// with or without milliseconds.
func (s *Sim) clockText(c *call, now time.Time) string {
	layout := pick(c.rng, []string{time.RFC3339, "2006-01-02T15:04:05.000Z07:00"})
	return now.In(pick(c.rng, zones[:3])).Format(layout)
}

func cdcEntities(list string) ([]entity.Info, *fault) {
	if list == "" {
		return nil, missingParameter("entities")
	}
	var asked []entity.Info
	for name := range strings.SplitSeq(list, ",") {
		info, ok := entity.Lookup(strings.TrimSpace(name))
		switch {
		case !ok:
			return nil, invalidQuery("Metadata not found for Entity: %s", name)
		case !info.CDC:
			return nil, invalidQuery("Operation cdc is not supported for Entity: %s", name)
		}
		if !slices.ContainsFunc(asked, func(a entity.Info) bool { return a.Name == info.Name }) {
			asked = append(asked, info)
		}
	}
	return asked, nil
}

// parseSince reads changedSince. A '+' that was not percent-encoded arrives as
// a space, and is refused.
func parseSince(text string, now time.Time) (time.Time, *fault) {
	if text == "" {
		return time.Time{}, missingParameter("changedSince")
	}
	since, ok := parseTime(text)
	if !ok {
		return time.Time{}, unreadableQuery("Invalid changedSince date: %s", text)
	}
	if since.Before(now.Add(-cdcLookBack)) {
		return time.Time{}, tooOld(text)
	}
	return since, nil
}

// parseTime reads a time as Intuit takes it; without an offset it is
// California's.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, zones[0]); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
