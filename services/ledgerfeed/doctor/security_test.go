package doctor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/doctor"
)

// elsewhere is an address that counts as another machine's and leads to this one.
const elsewhere = "0.0.0.0"

// finding is the only one of a check.
func finding(t *testing.T, r doctor.Report, check string) doctor.Finding {
	t.Helper()
	var found []doctor.Finding
	for _, f := range r.Findings {
		if f.Check == check {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1, check+"\n"+text(r))
	return found[0]
}

// What lets others in is found, each by the check that is named after it.
func TestDoctor_FindsWhatLetsOthersIn(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.connect(time.Now().Add(100 * 24 * time.Hour))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // others enter it
	exposed := filepath.Join(dir, "apps")
	require.NoError(t, os.WriteFile(exposed, []byte("production="+token), 0o600))
	require.NoError(t, os.Chmod(exposed, 0o644))
	require.NoError(t, s.store.QueueAction(t.Context(), "{}"))
	c := &s.options.Config
	c.NATS.URL = strings.Replace(c.NATS.URL, "127.0.0.1", elsewhere, 1)
	c.Redis.URL = secret.String(strings.Replace(c.Redis.URL.Reveal(), "127.0.0.1", elsewhere, 1))
	c.Processor.Sinks = []string{"books=postgres://postgres@db.example.com/books?sslmode=require"}
	c.Console.Listen, c.Console.Token = ":8090", "0123456789abcdef"
	c.Admin.Listen, c.Admin.Pprof = ":9090", true
	s.options.Environ = []string{"LEDGERFEED_INGRESS_APPS_FILE=" + exposed}
	r := s.look(false)
	for check, want := range map[string]struct {
		level doctor.Level
		text  string
	}{
		"broker-login": {doctor.Fail, "accepts any client"},
		"broker-tls":   {doctor.Warn, "no TLS"},
		"redis-login":  {doctor.Fail, "accepts any client"},
		"redis-tls":    {doctor.Warn, "no TLS"},
		"postgres-tls": {doctor.Warn, "sslmode is require"},
		"console-url":  {doctor.Fail, "sessions cross the network in clear"},
		"secret-files": {doctor.Fail, exposed},
		"pprof":        {doctor.Warn, ":9090"},
		"trail":        {doctor.Warn, "wait in Redis"},
		"versions":     {doctor.OK, "nats-server"},
	} {
		f := finding(t, r, check)
		require.Equal(t, want.level, f.Level, f.Text)
		require.Contains(t, f.Text, want.text)
		require.Equal(t, f.Level != doctor.OK, f.Do != "")
	}
	require.NotContains(t, text(r), "0123456789abcdef")
}

// On one machine there is nothing to find, and a file of its own is none.
func TestDoctor_ASystemOnOneMachineNeedsNoLogin(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	own := filepath.Join(t.TempDir(), "apps")
	require.NoError(t, os.WriteFile(own, []byte("production="+token), 0o600))
	s.options.Environ = []string{"LEDGERFEED_INGRESS_APPS_FILE=" + own}
	r := s.look(false)
	for _, check := range []string{"broker-login", "broker-tls", "redis-login", "redis-tls", "console-url", "secret-files", "pprof", "trail", "versions"} {
		f := finding(t, r, check)
		require.Equal(t, doctor.OK, f.Level, f.Text)
	}
}
