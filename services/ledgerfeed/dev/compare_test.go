package dev

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

func TestCompare_CountsEachDifferenceOnce(t *testing.T) {
	const (
		old       = 1_700_000_000_000_000
		version   = 1_700_000_000_000_001
		newer     = 1_700_000_001_000_002
		tombstone = 1_700_000_000_999_999
	)
	type side struct {
		version int64
		deleted bool
	}
	none := side{}
	for _, tt := range []struct {
		name        string
		entity      string
		truth, held side
		want        [4]int // changes, lost, stale, extra
		content     []byte // of what is held, where it is not QuickBooks'
	}{
		{"same", "Invoice", side{version, false}, side{version, false}, [4]int{1, 0, 0, 0}, nil},
		{"missing", "Invoice", side{version, false}, none, [4]int{1, 1, 0, 0}, nil},
		{"older", "Invoice", side{version, false}, side{old, false}, [4]int{1, 0, 1, 0}, nil},
		{"newer than the books", "Invoice", side{version, false}, side{newer, false}, [4]int{1, 0, 0, 1}, []byte(`{"Id":"2"}`)},
		{"the same at a higher version", "Invoice", side{version, false}, side{newer, false}, [4]int{1, 0, 0, 0}, nil},
		{"not in the books", "Invoice", none, side{version, false}, [4]int{0, 0, 0, 1}, nil},
		{"tombstone not in the books", "Invoice", none, side{tombstone, true}, [4]int{0, 0, 0, 1}, nil},
		{"deleted in both", "Invoice", side{tombstone, true}, side{tombstone, true}, [4]int{1, 0, 0, 0}, nil},
		{"deleted, found later by a sweep", "TimeActivity", side{tombstone, true}, side{tombstone + 5e6, true}, [4]int{1, 0, 0, 0}, nil},
		{"deleted, claimed before it was", "Invoice", side{tombstone + 5e6, true}, side{tombstone, true}, [4]int{1, 0, 0, 0}, nil},
		{"live though deleted", "Invoice", side{tombstone, true}, side{version, false}, [4]int{1, 0, 1, 0}, nil},
		{"live at a higher version though deleted", "Invoice", side{tombstone, true}, side{newer, false}, [4]int{1, 0, 1, 0}, nil},
		{"deleted though live", "Invoice", side{version, false}, side{tombstone, true}, [4]int{1, 0, 0, 1}, nil},
		{"deleted in the future though live", "Vendor", side{version, false}, side{newer + 1e12, true}, [4]int{1, 0, 0, 1}, nil},
		{"deleted once though live since", "TimeActivity", side{newer, false}, side{tombstone, true}, [4]int{1, 0, 1, 0}, nil},
		{"tombstone missing", "Invoice", side{tombstone, true}, none, [4]int{1, 1, 0, 0}, nil},
		{"tombstone missing that nobody can learn", "TimeActivity", side{tombstone, true}, none, [4]int{0, 0, 0, 0}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := sink.Ref{Realm: "1", Entity: tt.entity, ID: "2"}
			truth, held := map[sink.Ref]qbosim.State{}, snapshot{}
			if tt.truth != none {
				truth[ref] = qbosim.State{Version: tt.truth.version, Deleted: tt.truth.deleted}
			}
			if tt.held != none {
				held[ref] = holding{Row: sink.Row{Version: tt.held.version, Deleted: tt.held.deleted}, content: contentOf(tt.content)}
			}
			d := compare(truth, held)
			if diff := cmp.Diff(tt.want, [4]int{d.changes, d.lost, d.stale, d.extra}); diff != "" {
				t.Errorf("changes, lost, stale, extra (-want +got):\n%s", diff)
			}
			require.Len(t, d.examples, d.lost+d.stale+d.extra)
			wrong := 0
			if tt.truth != none && !tt.truth.deleted && tt.held.deleted {
				wrong = 1
			}
			require.Equal(t, wrong, d.wrongTombstones)
			require.Equal(t, tt.want[1]+tt.want[2]+tt.want[3] == 0, d.equal())
		})
	}
}

func TestCompare_ShowsTenExamples(t *testing.T) {
	truth := map[sink.Ref]qbosim.State{}
	for id := range 25 {
		truth[sink.Ref{Realm: "1", Entity: "Invoice", ID: string(rune('a' + id))}] = qbosim.State{Version: 1}
	}
	d := compare(truth, snapshot{})
	require.Equal(t, 25, d.lost)
	require.Len(t, d.examples, 10)
	require.Contains(t, d.examples[0], "realm 1 Invoice a")
}
