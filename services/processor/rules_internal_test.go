package processor

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	opUpdate = ledgerfeedv1.Operation_OPERATION_UPDATE
	opDelete = ledgerfeedv1.Operation_OPERATION_DELETE
)

// second 0 of the rules below.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func version(second int, token string) int64 { return qbo.Version(at(1000*second), token, false) }

func testUnit(source ledgerfeedv1.Source, op ledgerfeedv1.Operation, occurred time.Time, version int64) *unit {
	env := &ledgerfeedv1.Envelope{RealmId: "1", Source: source, ReceivedAt: timestamppb.New(noon.Add(time.Hour))}
	return &unit{from: &message{env: env}, id: "7", entity: "Bill", operation: op, occurred: occurred, version: version, sinks: 1}
}

func webhookUnit(op ledgerfeedv1.Operation, occurred time.Time) *unit {
	return testUnit(ledgerfeedv1.Source_SOURCE_WEBHOOK, op, occurred, 0)
}

// hashed is what a scan saw of a document.
func hashed(version int64, hash string) *unit {
	u := scanUnit(opUpdate, version)
	u.hash = hash
	return u
}

func scanUnit(op ledgerfeedv1.Operation, version int64) *unit {
	return testUnit(ledgerfeedv1.Source_SOURCE_CDC, op, qbo.VersionTime(version), version)
}

func TestItem_CoversOnlyWhatWasDelivered(t *testing.T) {
	tombstone := qbo.TombstoneVersion(noon)
	merged := webhookUnit(opDelete, at(500))
	merged.mergedInto = "9"
	for name, row := range map[string]struct {
		entity string
		unit   *unit
		mark   state.Mark
		want   bool
	}{
		"no mark":                            {"Bill", webhookUnit(opUpdate, at(500)), state.Mark{}, false},
		"version of an earlier second":       {"Bill", webhookUnit(opUpdate, at(500)), state.Mark{Version: version(-1, "9")}, false},
		"version of the same second":         {"Bill", webhookUnit(opUpdate, at(500)), state.Mark{Version: version(0, "9")}, false},
		"version of a later second":          {"Bill", webhookUnit(opUpdate, at(500)), state.Mark{Version: version(1, "0")}, true},
		"time covered":                       {"Bill", webhookUnit(opUpdate, at(500)), state.Mark{Version: version(0, "1"), Covered: at(500)}, true},
		"time covered to the millisecond":    {"Bill", webhookUnit(opUpdate, at(500).Add(999)), state.Mark{Version: version(0, "1"), Covered: at(500)}, true},
		"time not covered":                   {"Bill", webhookUnit(opUpdate, at(501)), state.Mark{Version: version(0, "1"), Covered: at(500)}, false},
		"whole second, covered in part":      {"Bill", webhookUnit(opUpdate, at(0)), state.Mark{Version: version(0, "1"), Covered: at(998)}, false},
		"whole second, covered":              {"Bill", webhookUnit(opUpdate, at(0)), state.Mark{Version: version(0, "1"), Covered: at(999)}, true},
		"no time":                            {"Bill", webhookUnit(opUpdate, time.Time{}), state.Mark{Version: version(9, "1"), Covered: at(9000)}, false},
		"tombstone, earlier event":           {"Bill", webhookUnit(opUpdate, at(-9000)), state.Mark{Version: tombstone}, true},
		"tombstone, later event":             {"Bill", webhookUnit(opUpdate, at(9000)), state.Mark{Version: tombstone}, false},
		"tombstone, no time":                 {"Bill", webhookUnit(opUpdate, time.Time{}), state.Mark{Version: tombstone}, false},
		"tombstone, later deletion":          {"Bill", webhookUnit(opDelete, at(9000)), state.Mark{Version: tombstone}, true},
		"tombstone, earlier scan":            {"Bill", scanUnit(opUpdate, version(-9, "1")), state.Mark{Version: tombstone}, true},
		"tombstone, a later state by a scan": {"Bill", scanUnit(opUpdate, version(9, "1")), state.Mark{Version: tombstone}, false},
		"restored, a tombstone":              {"Bill", testUnit(ledgerfeedv1.Source_SOURCE_RESTORED, opUpdate, time.Time{}, version(-9, "1")), state.Mark{Version: tombstone}, false},
		"restored, it is there":              {"Bill", testUnit(ledgerfeedv1.Source_SOURCE_RESTORED, opUpdate, time.Time{}, version(0, "1")), state.Mark{Version: version(0, "1")}, true},
		"restored, never delivered":          {"Bill", testUnit(ledgerfeedv1.Source_SOURCE_RESTORED, opUpdate, time.Time{}, version(0, "1")), state.Mark{}, false},
		"scan of the same document":          {"Bill", hashed(version(0, "1"), "a"), state.Mark{Version: version(0, "1"), Hash: "a"}, true},
		"scan of another document":           {"Bill", hashed(version(0, "1"), "b"), state.Mark{Version: version(0, "1"), Hash: "a"}, false},
		"scan of an older document":          {"Bill", hashed(version(0, "1"), "b"), state.Mark{Version: version(1, "1"), Hash: "a"}, true},
		"higher token, a second earlier":     {"Bill", scanUnit(opUpdate, version(0, "2")), state.Mark{Version: version(1, "1")}, false},
		"tombstone, later scan":              {"Bill", scanUnit(opDelete, qbo.TombstoneVersion(at(9000))), state.Mark{Version: tombstone}, true},
		"scan below the mark":                {"Bill", scanUnit(opUpdate, version(0, "1")), state.Mark{Version: version(0, "1")}, true},
		"scan above the mark":                {"Bill", scanUnit(opUpdate, version(0, "2")), state.Mark{Version: version(0, "1"), Covered: at(9000)}, false},
		"replay":                             {"Bill", testUnit(ledgerfeedv1.Source_SOURCE_REPLAY, opUpdate, at(0), 0), state.Mark{Version: tombstone}, false},
		"deletion older than the mark":       {"Bill", webhookUnit(opDelete, at(500)), state.Mark{Version: version(5, "1"), Covered: at(5000)}, false},
		"list deletion older than the mark":  {"Customer", webhookUnit(opDelete, at(500)), state.Mark{Version: version(5, "1")}, true},
		"merged away, older than the mark":   {"Customer", merged, state.Mark{Version: version(5, "1")}, false},
		"unknown entity, deletion, as above": {"Spaceship", webhookUnit(opDelete, at(500)), state.Mark{Version: version(5, "1")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			info, known := entity.Lookup(row.entity)
			it := &item{info: &info, known: known}
			require.Equal(t, row.want, it.covers(row.mark, row.unit))
		})
	}
}

func TestItem_BehindIsAStateOlderThanTheEvent(t *testing.T) {
	living, inactive := []byte(`{"Active":true}`), []byte(`{"Active":false}`)
	for name, row := range map[string]struct {
		unit *unit
		mark int64
		at   int // second of the state
		raw  []byte
		want bool
	}{
		"earlier second":                      {webhookUnit(opUpdate, at(500)), 0, -1, living, true},
		"same second":                         {webhookUnit(opUpdate, at(500)), 0, 0, living, false},
		"later second":                        {webhookUnit(opUpdate, at(500)), 0, 1, living, false},
		"no time":                             {webhookUnit(opUpdate, time.Time{}), 0, -9, living, false},
		"yet to come":                         {webhookUnit(opUpdate, at(3_600_000)), 0, 0, living, false},
		"older than delivered":                {webhookUnit(opUpdate, at(500)), version(1, "0"), 0, living, true},
		"older than a tombstone":              {webhookUnit(opUpdate, at(500)), qbo.TombstoneVersion(at(5000)), 0, living, false},
		"older than delivered, no time":       {webhookUnit(opUpdate, time.Time{}), version(1, "0"), 0, living, true},
		"scan above":                          {scanUnit(opUpdate, version(0, "4")), 0, 0, living, true},
		"scan at":                             {scanUnit(opUpdate, version(0, "3")), 0, 0, living, false},
		"deleted, active in the same second":  {webhookUnit(opDelete, at(500)), 0, 0, living, true},
		"deleted, inactive in the same":       {webhookUnit(opDelete, at(500)), 0, 0, inactive, false},
		"deleted, active again later":         {webhookUnit(opDelete, at(500)), 0, 1, living, false},
		"deleted, inactive from before":       {webhookUnit(opDelete, at(500)), 0, -1, inactive, true},
		"deleted, without a flag in the same": {webhookUnit(opDelete, at(500)), 0, 0, []byte(`{}`), true},
	} {
		t.Run(name, func(t *testing.T) {
			it := &item{units: []*unit{row.unit}, lacking: 1, marks: []state.Mark{{Version: row.mark}}}
			e := qbo.Entity{ID: "7", SyncToken: "3", LastUpdated: at(1000 * row.at), Raw: row.raw}
			require.Equal(t, row.want, it.behind(row.unit, e, at(60_000)))
		})
	}
}

func TestCoveredBy_NeverSpeaksForALaterWrite(t *testing.T) {
	for name, row := range map[string]struct {
		unit     *unit
		answered time.Time
		want     time.Time
	}{
		"milliseconds":                    {webhookUnit(opUpdate, at(500)), at(600), at(500)},
		"nanoseconds":                     {webhookUnit(opUpdate, at(500).Add(7)), at(600), at(500)},
		"whole second, answered in it":    {webhookUnit(opUpdate, at(0)), at(900), at(-1)},
		"whole second, answered too soon": {webhookUnit(opUpdate, at(0)), at(1999), at(-1)},
		"whole second, answered after it": {webhookUnit(opUpdate, at(0)), at(2000), at(999)},
		"whole second, answer has no time": {
			webhookUnit(opUpdate, at(0)), time.Time{}, at(-1)},
		"no time":         {webhookUnit(opUpdate, time.Time{}), at(0), time.Time{}},
		"scan":            {scanUnit(opUpdate, version(0, "1")), at(9000), time.Time{}},
		"from the future": {webhookUnit(opUpdate, at(60_500)), at(0), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, row.want, coveredBy(row.unit, row.answered)) })
	}
}

// queued are lanes that deliver nothing by themselves, so that a test takes.
func queued(config ProcessorConfig, units ...*unit) *lanes {
	l := newLanes(config, func() time.Time { return noon }, nil)
	for _, u := range units {
		l.laneLocked(u).addLocked(u)
	}
	return l
}

// ids are those of the next batch of the lane of an entity type.
func (l *lanes) ids(entity string) (ids []string) {
	r := l.realms["1"]
	if r == nil || r.lanes[entity] == nil {
		return nil
	}
	b := l.take(r.lanes[entity])
	if b == nil {
		return nil
	}
	for _, it := range b.items {
		ids = append(ids, it.ref.Entity+it.ref.ID)
	}
	slices.Sort(ids)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range b.lanes {
		n.busy, n.due = false, time.Time{}
		if len(n.waiting) == 0 {
			l.wakeLocked(ctx, n)
		}
	}
	return ids
}

func (u *unit) about(entity, id string) *unit {
	u.entity, u.id = entity, id
	return u
}

// A scan's item that a webhook tells of too goes first, and once.
func TestLanes_AnItemIsTakenOnce(t *testing.T) {
	config := DefaultProcessorConfig()
	config.BatchSize = 2
	scan := func(id string) *unit { return scanUnit(opUpdate, version(0, "1")).about("Bill", id) }
	l := queued(config, scan("1"), scan("2"), scan("3"), webhookUnit(opUpdate, noon).about("Bill", "3"))
	require.Equal(t, []string{"Bill1", "Bill3"}, l.ids("Bill"))
	require.Equal(t, []string{"Bill2"}, l.ids("Bill"))
	require.Empty(t, l.realms, "an empty lane goes, and its realm")
}

// What happened of late to several entity types is one call of CDC.
func TestLanes_TakeTogetherWhatOneCallTells(t *testing.T) {
	recent := func(entity, id string) *unit { return webhookUnit(opUpdate, noon.Add(-time.Minute)).about(entity, id) }
	many := make([]*unit, togetherItems+1)
	for i := range many {
		many[i] = recent("Customer", strconv.Itoa(i))
	}
	for name, row := range map[string]struct {
		other []*unit
		want  []string
	}{
		"recent":          {[]*unit{recent("Customer", "2")}, []string{"Bill1", "Customer2"}},
		"long ago":        {[]*unit{webhookUnit(opUpdate, noon.Add(-time.Hour)).about("Customer", "2")}, []string{"Bill1"}},
		"a scan's":        {[]*unit{scanUnit(opUpdate, version(0, "1")).about("Customer", "2")}, []string{"Bill1"}},
		"CDC has it not":  {[]*unit{recent("TimeActivity", "2")}, []string{"Bill1"}},
		"nobody knows it": {[]*unit{recent("Spaceship", "2")}, []string{"Bill1"}},
		"too many":        {many, []string{"Bill1"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := queued(DefaultProcessorConfig(), append(row.other, recent("Bill", "1"))...)
			require.Equal(t, row.want, l.ids("Bill"))
		})
	}
}

// One lane has one batch at a time, or an older state could be written after a
// newer one.
func TestLanes_ALaneThatIsBusyIsLeftAlone(t *testing.T) {
	recent := func(entity, id string) *unit { return webhookUnit(opUpdate, noon.Add(-time.Minute)).about(entity, id) }
	l := queued(DefaultProcessorConfig(), recent("Bill", "1"), recent("Customer", "2"))
	lanes := l.realms["1"].lanes
	lanes["Customer"].busy = true
	require.Equal(t, []string{"Bill1"}, l.ids("Bill"))
	require.Nil(t, l.take(lanes["Customer"]))
}

// What no step decided on must not be acked.
func TestItem_AnUndecidedUnitIsTriedAgain(t *testing.T) {
	u := webhookUnit(opUpdate, noon)
	it := &item{units: []*unit{u}, failed: make([]error, 1)}
	it.conclude(u)
	require.ErrorIs(t, u.err, errUndecided)
}
