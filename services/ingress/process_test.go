package ingress_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// program is cmd/ingress in a process of its own: its memory is nobody else's.
type program struct {
	t       testing.TB
	cmd     *exec.Cmd
	addr    string
	admin   string
	environ []string
	stderr  string // the file of its log
}

// startProgram builds and starts it on a broker, and returns when it is ready.
func startProgram(t testing.TB, broker string, environ ...string) *program {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ingress")
	out, err := exec.Command("go", "build", "-o", binary, "./cmd/ingress").CombinedOutput()
	require.NoError(t, err, string(out))
	p := &program{t: t, addr: freeAddress(t), admin: freeAddress(t)}
	p.environ = append([]string{
		"LEDGERFEED_NATS_URL=" + broker,
		"LEDGERFEED_NATS_PROFILE=dev",
		"LEDGERFEED_NATS_EVENTS_MAX_BYTES=268435456",
		"LEDGERFEED_NATS_RETRY_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_DEAD_MAX_BYTES=67108864",
		"LEDGERFEED_NATS_CHANGES_MAX_BYTES=67108864",
		"LEDGERFEED_INGRESS_LISTEN=" + p.addr,
		"LEDGERFEED_INGRESS_APPS=" + apps.Reveal(),
		"LEDGERFEED_ADMIN_LISTEN=" + p.admin,
		"LEDGERFEED_LOG_LEVEL=error",
	}, environ...)
	p.cmd, p.stderr = exec.Command(binary), filepath.Join(t.TempDir(), "log")
	log, err := os.Create(p.stderr)
	require.NoError(t, err)
	defer log.Close()
	p.cmd.Env, p.cmd.Stderr = p.environ, log
	require.NoError(t, p.cmd.Start())
	// Whatever ends this process closes the pipe, and the shell ends the program.
	watchdog := exec.Command("/bin/sh", "-c", `read -r line; kill -9 "$1" 2>/dev/null`, "sh", strconv.Itoa(p.cmd.Process.Pid))
	leash, err := watchdog.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, watchdog.Start())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.log())
		}
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, p.cmd.Wait(), p.log())
		leash.Close()
		_ = watchdog.Wait()
	})
	require.Eventually(t, func() bool { return telemetry.Healthcheck(t.Context(), p.environ) == nil }, time.Minute, 20*time.Millisecond)
	return p
}

// log is what it has logged.
func (p *program) log() string {
	p.t.Helper()
	text, err := os.ReadFile(p.stderr)
	require.NoError(p.t, err)
	return string(text)
}

// resident is its resident memory in bytes.
func (p *program) resident() int64 {
	p.t.Helper()
	pid := strconv.Itoa(p.cmd.Process.Pid)
	if runtime.GOOS == "linux" {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		require.NoError(p.t, err)
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				return kibibytes(p.t, strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			}
		}
		p.t.Fatal("/proc has no VmRSS")
	}
	out, err := exec.Command("ps", "-o", "rss=", "-p", pid).Output()
	require.NoError(p.t, err)
	return kibibytes(p.t, strings.TrimSpace(string(out)))
}

func kibibytes(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(t, err)
	return n << 10
}

// metric reads one without labels.
func (p *program) metric(name string) float64 {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.admin+"/metrics", nil)
	require.NoError(p.t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	require.NoError(p.t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	f := families[name]
	require.NotNil(p.t, f, name)
	m := f.GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
}

// requireFiles fails where the machine does not let a process open so many.
func requireFiles(t testing.TB, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < n && limit.Max >= n {
		limit.Cur = n
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	}
	if limit.Cur < n {
		t.Fatalf("this test needs %d open files, and the machine allows a process %d: raise the hard limit (ulimit -Hn)", n, limit.Max)
	}
}
