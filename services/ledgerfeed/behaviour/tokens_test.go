package behaviour_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// How long the keys are wrong, and how soon after every company must be live.
const (
	wrongFor  = 30 * time.Second
	rightSoon = time.Minute
)

// Half a minute with the keys of another app, and with a token endpoint that says so:
// a minute after the keys are right again every company is live, and nobody has done
// anything.
func TestDay_WrongKeysEndByThemselves(t *testing.T) {
	for name, wrong := range map[string]func(*day){
		"deployed": func(d *day) {
			d.restart("sandbox", "sandbox-hush")
			d.expire()
			d.half()
			d.restart("books", "hush")
		},
		"answered": func(d *day) {
			f := d.sim.Faults()
			f.RefuseRefresh = []qbosim.TokenRefusal{{Description: qbosim.WrongClient, For: wrongFor}}
			d.sim.SetFaults(f)
			d.expire()
			d.half()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 5, company)
			d.age()
			before := d.sim.Stats()
			wrong(d)
			d.advanceBy(rightSoon, 5*time.Second)
			d.drain()
			o := d.since(before)
			t.Log(o)
			require.Equal(t, map[connection.State]int{connection.Live: 5}, o.states, "%s", o)
			require.Zero(t, o.dead, "%s", o)
			require.LessOrEqual(t, len(o.missing), o.waiting, "what waits for a delay of the broker is on its way: %s", o)
		})
	}
}

// expire ends the access tokens of all companies, so that each needs a refresh.
func (d *day) expire() {
	for _, realm := range d.realms {
		d.sim.ExpireAccess(realm)
	}
}

// half lets the half minute pass while each company changes.
func (d *day) half() {
	d.t.Helper()
	for _, realm := range d.realms {
		d.change(realm, 1)
	}
	d.advanceBy(wrongFor, 5*time.Second)
}

// One event of a company whose good tokens are answered 401 takes two refreshes in ten
// minutes at most.
func TestDay_A401ToGoodTokensIsNotRefreshedAway(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"auth-100", "cluster-130", "access-120"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := begin(t, 1, company)
			d.age()
			d.refuse(qbosim.Refusal{Recorded: name})
			before := d.sim.Stats()
			d.change(d.realms[0], 1)
			d.advanceBy(10*time.Minute, 30*time.Second)
			o := d.since(before)
			t.Log(o)
			require.LessOrEqual(t, o.refreshes, 2, "%s", o)
			require.Zero(t, o.dead, "%s", o)
		})
	}
}
