package behaviour_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// refusals are the ten ways in which one entity is refused.
var refusals = []string{
	"feature-5020", "feature-5030", "business-6000", "ended-6190", "bare-400", "gateway-404", "forbidden-3100", "access-120", "fault-200", "system-500",
}

// What Intuit charges for in a day of a company in which nothing changes, and in the first
// one of a company.
const (
	quietCalls = 3
	firstCalls = 40
)

// refusedEntity is one that CDC and Query know.
const refusedEntity = "Budget"

// small is a company that uses few types. Like any other it has Preferences, and says what
// it is.
func small(d *day, realm string) {
	d.t.Helper()
	for _, name := range []string{"Customer", "Customer", "Item", "Invoice", "Invoice", refusedEntity, "CompanyInfo", "Preferences"} {
		_, err := d.sim.Create(realm, name, nil)
		require.NoError(d.t, err)
	}
}

// A company whose edition lacks one entity costs what others cost, and has everything
// else, whatever QuickBooks answers for the entity.
func TestDay_OneEntityIsRefused(t *testing.T) {
	for _, name := range refusals {
		t.Run("quiet/"+name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 1, small)
			d.refuse(qbosim.Refusal{Entity: refusedEntity, Recorded: name})
			d.age() // and finds out
			before := d.sim.Stats()
			d.advance(24 * time.Hour)
			o := d.since(before)
			t.Log(o)
			require.LessOrEqual(t, o.answered, quietCalls, "%s", d.called())
			require.Zero(t, o.dead)
			require.Equal(t, o.records, o.same, "%s", o)
			require.Equal(t, map[connection.State]int{connection.Live: 1}, o.states)
			require.Contains(t, o.left, refusedEntity, "the refusal is reported")
		})
		t.Run("new/"+name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 1, func(d *day, realm string) {
				small(d, realm)
				d.refuse(qbosim.Refusal{Entity: refusedEntity, Recorded: name})
			})
			before := qbosim.Stats{}
			d.advance(24 * time.Hour)
			o := d.since(before)
			t.Log(o)
			require.LessOrEqual(t, o.answered, firstCalls, "%s", d.called())
			require.Zero(t, o.dead)
			require.Equal(t, []string{refusedEntity + " 1"}, o.missing, "%s", o)
			require.Equal(t, map[connection.State]int{connection.Live: 1}, o.states)
			require.Contains(t, o.left, refusedEntity, "the refusal is reported")
		})
	}
}

// The same company without a refusal: what is above costs no more.
func TestDay_NothingIsRefused(t *testing.T) {
	t.Parallel()
	d := begin(t, 1, small)
	o := d.since(qbosim.Stats{})
	t.Log("the load:", o)
	require.LessOrEqual(t, o.answered, firstCalls, "%s", d.called())
	d.age()
	before := d.sim.Stats()
	d.advance(24 * time.Hour)
	o = d.since(before)
	t.Log("a quiet day:", o)
	require.LessOrEqual(t, o.answered, quietCalls, "%s", d.called())
	require.Zero(t, o.refused)
	require.Equal(t, o.records, o.same)
}
