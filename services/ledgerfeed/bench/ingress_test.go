package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// Without flags it is a smoke test of some seconds: it shows that each contender
// works and is counted, and its figures mean nothing.
var (
	duration = flag.Duration("bench.window", 100*time.Millisecond, "measured time of a window; 20s for figures that count")
	rounds   = flag.Int("bench.rounds", 1, "windows of each contender; 3 for figures that count")
	only     = flag.String("bench.only", "", "contenders to run, separated by commas; all if empty")
	setting  = flag.String("bench.profile", "", "the one profile to run, r1-relaxed or r1-sync-always; ingress.json keeps what it has of the other. Both if empty")
	out      = flag.String("bench.out", "", "directory for the JSON and the tables; none if empty")
	update   = flag.Bool("bench.update", false, "put what the JSON in bench.out holds into docs/benchmarks.md")
	profiles = flag.Bool("bench.pprof", false, "write profiles of our service to the directory of bench.out")
)

// fullWindow is the least that makes figures count: below it a bar that is
// missed is noise, and does not fail the run.
const fullWindow = 20 * time.Second

func smoke() bool { return *out == "" }

// interrupted ends with the first Ctrl-C: the measurement then ends in order,
// and a second one ends it at once.
var interrupted context.Context

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := runChild(name); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	var stop context.CancelFunc
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(interrupted, stop)
	os.Exit(devtest.Main(m))
}

const (
	relaxed = "r1-relaxed"
	synced  = "r1-sync-always"
)

func TestIngress(t *testing.T) {
	b := &bench{t: t, binary: build(t, "ingress"), began: time.Now()}
	b.plan()
	report := newReport()
	if !smoke() {
		require.NoError(t, os.MkdirAll(*out, 0o755))
	}
	for _, name := range []string{relaxed, synced} {
		if *setting != "" && *setting != name {
			report.keep(t, name)
			continue
		}
		p := b.start(name)
		p.warm()
		for round := range *rounds {
			p.round(round)
		}
		p.together()
		p.profile()
		report.add(p)
		p.stop()
	}
	report.memory(b)
	report.write(t)
	for _, row := range report.Rows {
		require.Zero(t, row.Lost, "%s (%s) answered 200 for what it did not store", row.Contender, row.Profile)
		require.Positive(t, row.Answered, "%s (%s) answered nothing", row.Contender, row.Profile)
		require.LessOrEqual(t, row.Stored, row.Answered+row.Failed, "%s (%s): more is stored than was sent, which would hide a loss", row.Contender, row.Profile)
	}
	for _, bar := range report.judge() {
		if !bar.held && !report.noise() {
			t.Errorf("missed: %s", bar.text)
		}
	}
}

// bench is one measurement of all contenders.
type bench struct {
	t      *testing.T
	binary string // of our service
	began  time.Time
	// left and done are what it takes, in windows.
	left, done float64
}

// The parts of a measurement take about so many windows.
const (
	costWarm, costIdle, costClosed, costSearch, costTogether = 0.2, 0.5, 1, 3, 1
)

func (b *bench) plan() {
	n := 0.0
	for _, name := range contenders {
		if wanted(name) {
			n++
		}
	}
	each := float64(*rounds) * (costIdle + costSearch)
	b.left = n * (2*costWarm + 2*each + float64(*rounds)*(costClosed+costTogether))
}

// step says what was measured and when all will be.
func (b *bench) step(cost float64, format string, args ...any) {
	b.t.Helper()
	if interrupted.Err() != nil {
		b.t.Fatal("interrupted")
	}
	b.left, b.done = b.left-cost, b.done+cost
	remaining := time.Duration(float64(time.Since(b.began)) * b.left / b.done).Round(time.Second)
	b.t.Logf("%s (%s left)", fmt.Sprintf(format, args...), remaining)
}

var contenders = []string{"ledgerfeed", "bare", "watermill", "watermill-split", "river"}

func wanted(name string) bool {
	return *only == "" || slices.Contains(strings.Split(*only, ","), name)
}

// build builds a service as it is released.
func build(t *testing.T, service string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), service)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary,
		"github.com/ledgerfeed/ledgerfeed/services/"+service+"/cmd/"+service)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	return binary
}

// diskDir is a directory on the disk, where a sync costs what it costs: the
// system's temporary one may be in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	build := filepath.Join("..", "..", "..", "build")
	require.NoError(t, os.MkdirAll(build, 0o755))
	dir, err := os.MkdirTemp(build, "bench-data-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
