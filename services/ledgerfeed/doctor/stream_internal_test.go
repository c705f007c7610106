package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

func TestDisks_ANearlyFullDiskIsNamed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		level Level
		store []stream.Server
		want  string
	}{
		{"room on all", OK, []stream.Server{{Name: "a", Stored: 1 << 20, StoreLimit: 1 << 30}, {Name: "b", StoreLimit: 1 << 30}}, "a has 1023 MiB left of 1024, b has 1024 MiB left of 1024"},
		{"one nearly full", Warn, []stream.Server{{Name: "a", StoreLimit: 1 << 30}, {Name: "b", Stored: 900 << 20, StoreLimit: 1 << 30}}, "b has 124 MiB left of 1024"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := &exam{}
			x.disks(stream.Durability{Servers: append(tc.store, stream.Server{Name: "nobody asked it"})})
			require.Len(t, x.report.Findings, 1)
			require.Equal(t, checkStore, x.report.Findings[0].Check)
			require.Equal(t, tc.level, x.report.Findings[0].Level)
			require.Contains(t, x.report.Findings[0].Text, tc.want)
		})
	}
}
