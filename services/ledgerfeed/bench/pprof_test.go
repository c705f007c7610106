package bench_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// profile writes a CPU profile of the ingress under all the load that 256
// connections make, in a window of its own: being profiled costs something.
func (p *profile) profile() {
	for _, c := range p.contenders {
		if !*profiles || smoke() || c.name != "ledgerfeed" {
			continue
		}
		done := make(chan error, 1)
		go func() {
			done <- c.save(fmt.Sprintf("debug/pprof/profile?seconds=%d", max(1, int(duration.Seconds()))), "ingress-"+p.name+".cpu.pprof")
		}()
		p.run(c, 0, connections, *duration)
		require.NoError(p.t, <-done)
	}
}

// profileMemory writes where the ingress has its memory.
func (c *child) profileMemory(t *testing.T) {
	t.Helper()
	require.NoError(t, c.save("debug/pprof/heap", "ingress-in-flight.heap.pprof"))
	require.NoError(t, c.save("debug/pprof/goroutine", "ingress-in-flight.goroutine.pprof"))
	require.NoError(t, c.save("metrics", "ingress-in-flight.metrics.txt")) // has the Go runtime's sums
}

// admin is the address that a service says last.
func (c *child) admin() string { return c.says[len(c.says)-1] }

// save puts what the admin endpoint of a service answers into a file.
func (c *child) save(what, file string) error {
	resp, err := http.Get("http://" + c.admin() + "/" + what)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %w", what, resp.Status, err)
	}
	return os.WriteFile(filepath.Join(*out, file), raw, 0o644)
}
