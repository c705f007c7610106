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

// A company whose edition lacks one entity costs what others cost, and has everything
// else, whatever QuickBooks answers for the entity.
func TestDay_OneEntityIsRefused(t *testing.T) {
	for _, name := range refusals {
		t.Run("quiet/"+name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 1, company)
			d.rest()
			d.age()
			d.refuse(qbosim.Refusal{Entity: refusedEntity, Recorded: name})
			d.advance(24 * time.Hour) // finds out
			before := d.sim.Stats()
			d.advance(24 * time.Hour)
			o := d.since(before)
			t.Log(o)
			require.LessOrEqual(t, o.answered, quietCalls)
			require.Zero(t, o.dead)
			require.Equal(t, o.records, o.same, "%s", o)
			require.Equal(t, map[connection.State]int{connection.Live: 1}, o.states)
			require.Contains(t, o.left, refusedEntity, "the refusal is reported")
		})
		t.Run("new/"+name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 1, func(d *day, realm string) {
				company(d, realm)
				d.refuse(qbosim.Refusal{Entity: refusedEntity, Recorded: name})
			})
			before := qbosim.Stats{}
			d.rest()
			d.advance(24 * time.Hour)
			o := d.since(before)
			t.Log(o)
			require.LessOrEqual(t, o.answered, firstCalls)
			require.Zero(t, o.dead)
			require.Equal(t, []string{refusedEntity + " 1"}, o.missing, "%s", o)
			require.Equal(t, map[connection.State]int{connection.Live: 1}, o.states)
			require.Contains(t, o.left, refusedEntity, "the refusal is reported")
		})
	}
}
