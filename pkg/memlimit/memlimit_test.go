package memlimit_test

import (
	"context"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"github.com/ledgerfeed/ledgerfeed/pkg/memlimit"
)

const (
	v2Mounts = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"
	v1Mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
	mib      = 1 << 20
)

func tree(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

// keep puts the limit of the test's process back.
func keep(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
}

func TestSet_FollowsTheCgroup(t *testing.T) {
	keep(t)
	for _, tt := range []struct {
		name    string
		files   map[string]string
		options memlimit.Options
		given   int64 // by GOMEMLIMIT
		want    int64
		source  string
	}{
		{"version 2 in a container", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "536870912\n",
		}, memlimit.Options{Default: 450 * mib}, 0, 512 * mib / 10 * 9, "cgroup"},
		{"version 2, the smallest on the way", map[string]string{
			"proc/self/cgroup": "0::/pods/pod1/c1\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/pods/memory.max": "max\n",
			"sys/fs/cgroup/pods/pod1/memory.max": "209715200\n", "sys/fs/cgroup/pods/pod1/c1/memory.max": "314572800\n",
		}, memlimit.Options{}, 0, 180 * mib, "cgroup"},
		{"version 2 without a limit", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "max\n",
		}, memlimit.Options{Default: 450 * mib}, 0, 450 * mib, "default"},
		{"version 1 in a container", map[string]string{
			"proc/self/cgroup": "9:cpu:/kubepods/pod1/c1\n4:memory:/kubepods/pod1/c1\n0::/\n", "proc/self/mountinfo": v1Mounts,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
		}, memlimit.Options{}, 0, 268435456 / 10 * 9, "cgroup"},
		{"version 1 without a limit", map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "proc/self/mountinfo": v1Mounts,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, memlimit.Options{}, 0, math.MaxInt64, "none"},
		{"more than the program takes", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "1073741824\n",
		}, memlimit.Options{Most: 500 * mib}, 0, 500 * mib, "cgroup"},
		{"no cgroups", nil, memlimit.Options{Default: 450 * mib}, 0, 450 * mib, "default"},
		{"damaged", map[string]string{
			"proc/self/cgroup": "0::\nx\n", "proc/self/mountinfo": "x\n - \n", "sys/fs/cgroup/memory.max": "many\n",
		}, memlimit.Options{}, 0, math.MaxInt64, "none"},
		{"GOMEMLIMIT is off", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "536870912\n",
		}, memlimit.Options{Off: true}, 0, math.MaxInt64, "GOMEMLIMIT"},
		{"GOMEMLIMIT is set", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "536870912\n",
		}, memlimit.Options{Default: 450 * mib}, 300 * mib, 300 * mib, "GOMEMLIMIT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			if tt.given > 0 {
				debug.SetMemoryLimit(tt.given) // as the runtime does
			}
			tt.options.Root = tree(tt.files)
			l := memlimit.Set(tt.options)
			require.InDelta(t, tt.want, l.Bytes(), 16)
			require.Equal(t, l.Bytes(), debug.SetMemoryLimit(-1))
			require.Equal(t, tt.source, l.Source())
		})
	}
}

// changing is a file system that is replaced while it is read.
type changing struct{ now atomic.Pointer[fstest.MapFS] }

func (c *changing) set(files fstest.MapFS) { c.now.Store(&files) }

func (c *changing) Open(name string) (fs.File, error) { return c.now.Load().Open(name) }

// A container may be resized while it runs.
func TestLimit_FollowsAChange(t *testing.T) {
	keep(t)
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mounts, "sys/fs/cgroup/memory.max": "104857600\n"}
		root := &changing{}
		root.set(tree(files))
		l := memlimit.Set(memlimit.Options{Root: root})
		require.EqualValues(t, 90*mib, debug.SetMemoryLimit(-1))
		core, logs := observer.New(zap.InfoLevel)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx, zap.New(core)) }()
		synctest.Wait()
		require.Equal(t, 1, logs.Len())
		require.Equal(t, "cgroup", logs.All()[0].ContextMap()["source"])
		require.EqualValues(t, 90*mib, logs.All()[0].ContextMap()["bytes"])
		files["sys/fs/cgroup/memory.max"] = "209715200\n"
		root.set(tree(files))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 180*mib, debug.SetMemoryLimit(-1))
		require.Equal(t, 2, logs.Len(), "said once")
		cancel()
		require.NoError(t, <-ended)
	})
}

// GOMAXPROCS follows the CPU limit of the cgroup in programs whose go.mod says Go 1.25 or
// newer and turns it off by no godebug line.
func TestGOMAXPROCS_IsTheRuntimesToSet(t *testing.T) {
	root := "../.."
	mods, err := filepath.Glob(filepath.Join(root, "services", "*", "go.mod"))
	require.NoError(t, err)
	require.NotEmpty(t, mods)
	for _, name := range mods {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		mod, err := modfile.Parse(name, text, nil)
		require.NoError(t, err)
		require.GreaterOrEqual(t, semver.Compare("v"+mod.Go.Version, "v1.25"), 0, name)
		require.Empty(t, mod.Godebug, name)
	}
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	require.NoError(t, err)
	require.False(t, strings.Contains(string(work), "godebug"))
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*", "main.go"))
	require.NoError(t, err)
	require.Len(t, mains, 4)
	for _, name := range mains {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(text), "//go:debug", name)
	}
}
