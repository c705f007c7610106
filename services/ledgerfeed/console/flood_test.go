package console_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/console"
)

// childEnv makes a re-executed test binary a console: over the Redis and the NATS it names.
const childEnv = "CONSOLE_CHILD"

// child serves until its standard input ends, and so no longer than the test.
func child() int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	redis, nats, _ := strings.Cut(os.Getenv(childEnv), " ")
	f, err := openFeed(ctx, redis, nats)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c := console.DefaultConsoleConfig()
	c.Listen, c.Token = "127.0.0.1:0", operatorToken
	s, err := console.New(f.options(c))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.URL())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	if err := s.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startChild returns the address and the number of a console of its own process.
func startChild(t *testing.T) (address string, pid int) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+devtest.Redis(t)+" "+devtest.NATS(t))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		killer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer killer.Stop()
		require.NoError(t, cmd.Wait())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "http://"), "/"), cmd.Process.Pid
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMiB is the most memory that a process has had.
func peakMiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	require.NoError(t, err)
	m := highWater.FindSubmatch(text)
	require.NotNil(t, m, string(text))
	kb, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return kb >> 10
}

// rawLogin sends a login as an attacker does: on a connection of its own, not caring for
// the answer.
func rawLogin(ctx context.Context, address, kind string, body []byte) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nX-Padding: %s\r\n\r\n",
		address, kind, len(body), strings.Repeat("x", 8<<10))
	// The console may have closed it meanwhile.
	_, _ = conn.Write(body)
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<10))
	return nil
}

// A stranger cannot make the console take memory: large bodies, bodies of parts, many
// connections, many failures.
func TestFlood_OfLoginsTakesLittleMemory(t *testing.T) {
	const limit = 128
	address, pid := startChild(t)
	idle := peakMiB(t, pid)
	var parts bytes.Buffer
	w := multipart.NewWriter(&parts)
	require.NoError(t, w.WriteField("token", strings.Repeat("a", 31<<20)))
	require.NoError(t, w.Close())
	const form = "application/x-www-form-urlencoded"
	large := append([]byte("token="), bytes.Repeat([]byte("a"), 31<<20)...)
	small := append([]byte("token="), bytes.Repeat([]byte("a"), 3<<10)...)
	for _, wave := range []struct {
		kind  string
		body  []byte
		times int
		open  int
	}{
		{w.FormDataContentType(), parts.Bytes(), 18, 18},
		{form, large, 18, 18},
		{form, small, 2000, 400},
	} {
		var g errgroup.Group
		g.SetLimit(wave.open)
		for range wave.times {
			g.Go(func() error { return rawLogin(t.Context(), address, wave.kind, wave.body) })
		}
		require.NoError(t, g.Wait())
		t.Logf("%d logins of %d bytes: most %d MiB, %d before", wave.times, len(wave.body), peakMiB(t, pid), idle)
		if !raceDetector {
			require.Less(t, peakMiB(t, pid), limit)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+overview, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode, "the operator is served")
}
