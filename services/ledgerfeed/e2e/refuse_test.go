package e2e_test

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What cannot work is refused with one line that names the flag and the value.
func TestDev_RefusesWhatCannotWork(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "not a directory")
	other := t.TempDir()
	write(t, filepath.Join(other, "VERSION"), "ledgerfeed dev data 999\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() }) // after the parallel ones
	free := freeAddress(t)

	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"unknown flag", []string{"--frobnicate"}, 2, []string{"--frobnicate"}},
		{"share above 1", []string{"--drop", "1.5"}, 2, []string{"--drop 1.5", "0 to 1"}},
		{"share of wrong deletions", []string{"--wrong-deletes", "2"}, 2, []string{"--wrong-deletes 2", "0 to 1"}},
		{"share of derived changes", []string{"--derived=-0.1"}, 2, []string{"--derived -0.1", "0 to 1"}},
		{"lag", []string{"--lag", "1h"}, 2, []string{"--lag 1h", "0 to 10m"}},
		{"share not a number", []string{"--drop", "NaN"}, 2, []string{"--drop NaN"}},
		{"negative rate", []string{"--rate=-1"}, 2, []string{"--rate -1"}},
		{"no realm", []string{"--realms", "0"}, 2, []string{"--realms 0"}},
		{"format", []string{"--format", "xml"}, 2, []string{"--format xml", "cloudevents, legacy or mixed"}},
		{"outage", []string{"--outage", "5s"}, 2, []string{"--outage", `"5s"`, "AT:FOR"}},
		{"duration", []string{"--for", "20"}, 2, []string{"--for", "20"}},
		{"sink kind", []string{"--sink", "csv:x"}, 2, []string{"--sink", "csv:x", "jsonl:PATH"}},
		{"sink twice", []string{"--sink", "jsonl:x", "--sink", "jsonl:./x"}, 2, []string{"--sink", "twice"}},
		{"sink in no directory", []string{"--sink", "jsonl:" + file + "/x.jsonl"}, 2, []string{"--sink jsonl:" + file}},
		{"endpoint without a scheme", []string{"--sink", "webhook:127.0.0.1:9000"}, 2, []string{"--sink", "webhook:http://"}},
		{"secret of an endpoint", []string{"--sink", "webhook:http://127.0.0.1:9000", "--webhook-secret", "hunter2!"}, 2, []string{"--sink webhook:http://127.0.0.1:9000", "base64"}},
		{"endpoint to compare", []string{"--sink", "webhook:http://127.0.0.1:9000", "--for", "1s"}, 2, []string{"--sink webhook:http://127.0.0.1:9000", "--for"}},
		{"address", []string{"--listen", "8080"}, 2, []string{"--listen 8080", "HOST:PORT"}},
		{"port in use", []string{"--listen", taken.Addr().String()}, 2, []string{taken.Addr().String(), "in use"}},
		{"data directory is a file", []string{"--data-dir", file}, 2, []string{"--data-dir " + file}},
		{"data directory below a file", []string{"--data-dir", file + "/data"}, 2, []string{"--data-dir " + file + "/data"}},
		{"data directory of another version", []string{"--data-dir", other}, 2, []string{"--data-dir " + other, "data 999"}},
		{"NATS away", []string{"--nats-url", "nats://" + free}, 3, []string{"--nats-url", free}},
		{"Redis away", []string{"--redis-url", "redis://:hunter2@" + free}, 3, []string{"--redis-url", free}},
		{"PostgreSQL away", []string{"--sink", "postgres://lf:hunter2@" + free + "/books"}, 3, []string{"--sink", free, "refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, append([]string{"dev", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--console-listen", "off"}, tt.args...)...)
			require.Equal(t, tt.code, p.code())
			for _, want := range tt.want {
				require.Contains(t, p.stderr.String(), want)
			}
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", p.stderr.String())
			require.NotContains(t, p.stderr.String()+p.stdout.String(), "hunter2")
		})
	}
}

func TestDev_OneProcessPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startDev(t, dir)
	first.waitFor("first change delivered")

	second := startDev(t, dir)
	require.Equal(t, 2, second.code())
	require.Contains(t, second.stderr.String(), "--data-dir "+dir+": another ledgerfeed dev is using it")

	first.signal(syscall.SIGINT)
	require.Zero(t, first.code())
}

func TestCommand_RefusesUnknownEnvironment(t *testing.T) {
	t.Setenv("LEDGERFEED_LOG_LEVELS", "debug")
	p := startDev(t, t.TempDir())
	require.Equal(t, 2, p.code())
	require.Contains(t, p.stderr.String(), "LEDGERFEED_LOG_LEVELS")
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
