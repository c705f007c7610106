package reload_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/reload"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type config struct {
	Redis struct {
		URL     secret.String `koanf:"url" live:"true"`
		Cluster bool          `koanf:"cluster"`
	} `koanf:"redis"`
	QBO struct {
		ClientID string `koanf:"client_id" live:"true" file:"true"`
		CertFile string `koanf:"cert_file"`
	} `koanf:"qbo"`
}

func (c config) Validate() error {
	if c.Redis.URL == "broken" {
		return errors.New("redis.url: cannot be used")
	}
	return nil
}

func besides(c config) map[string]string {
	if c.QBO.CertFile == "" {
		return nil
	}
	return map[string]string{"qbo.cert_file": c.QBO.CertFile}
}

type bundle struct {
	t        *testing.T
	dir      string
	settings *reload.Settings[config]
	logs     *observer.ObservedLogs
	registry *prometheus.Registry
}

func setup(t *testing.T, files map[string]string, environ ...string) *bundle {
	t.Helper()
	b := &bundle{t: t, dir: t.TempDir(), registry: prometheus.NewRegistry()}
	for name, text := range files {
		b.write(name, text)
		environ = append(environ, name+"="+filepath.Join(b.dir, name))
	}
	var err error
	b.settings, err = reload.Load(environ, func() config { return config{} }, besides)
	require.NoError(t, err)
	t.Cleanup(b.settings.Close)
	require.NoError(t, b.settings.Register(b.registry))
	core, logs := observer.New(zap.InfoLevel)
	b.logs = logs
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.settings.Run(ctx, zap.New(core)) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return b
}

func (b *bundle) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	require.NoError(b.t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(b.t, os.Rename(path+".new", path))
}

// line waits for the n-th line of that message and returns its settings.
func (b *bundle) line(message string, n int) map[string]any {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.logs.FilterMessage(message).Len() >= n }, 20*time.Second, 5*time.Millisecond, message)
	return b.logs.FilterMessage(message).All()[n-1].ContextMap()
}

func (b *bundle) count(outcome string) float64 {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "ledgerfeed_settings_reloads_total" && m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

const (
	reloaded = "settings reloaded"
	refused  = "settings not read again: the old ones stay"
	restart  = "settings have changed that need a restart"
)

func TestSettings_AreGivenToTheirUsers(t *testing.T) {
	b := setup(t, map[string]string{"LEDGERFEED_REDIS_URL_FILE": "one", "LEDGERFEED_QBO_CLIENT_ID_FILE": "app", "LEDGERFEED_QBO_CERT_FILE": "pem"})
	var got []string
	require.NoError(t, b.settings.Use(func(c config) error {
		got = append(got, c.Redis.URL.Reveal()+" "+c.QBO.ClientID)
		return nil
	}))
	b.write("LEDGERFEED_REDIS_URL_FILE", "two\n")
	require.Equal(t, []any{"redis.url"}, b.line(reloaded, 1)["settings"])
	b.write("LEDGERFEED_QBO_CLIENT_ID_FILE", "other")
	require.Equal(t, []any{"qbo.client_id"}, b.line(reloaded, 2)["settings"])
	b.write("LEDGERFEED_QBO_CERT_FILE", "renewed")
	require.Equal(t, []any{"qbo.cert_file"}, b.line(reloaded, 3)["settings"])
	require.Equal(t, "two", b.settings.Get().Redis.URL.Reveal())
	require.Equal(t, []string{"one app", "two app", "two other", "two other"}, got)
	require.EqualValues(t, 3, b.count("applied"))
	require.Zero(t, b.logs.FilterMessageSnippet("two").Len())
}

func TestSettings_StayWhereTheNewCannotBeUsed(t *testing.T) {
	b := setup(t, map[string]string{"LEDGERFEED_REDIS_URL_FILE": "one"})
	told := make(chan struct{}, 9)
	b.settings.Refused(func() { told <- struct{}{} })
	for n, text := range []string{"", "broken"} {
		b.write("LEDGERFEED_REDIS_URL_FILE", text)
		b.line(refused, n+1)
		<-told
		require.Equal(t, "one", b.settings.Get().Redis.URL.Reveal())
	}
	require.EqualValues(t, 2, b.count("refused"))
	b.write("LEDGERFEED_REDIS_URL_FILE", "two")
	b.line(reloaded, 1)
	require.Equal(t, "two", b.settings.Get().Redis.URL.Reveal())
}

// One that cannot take them leaves them to nobody.
func TestSettings_AllTakeThemOrNone(t *testing.T) {
	b := setup(t, map[string]string{"LEDGERFEED_REDIS_URL_FILE": "one"})
	var first string
	require.NoError(t, b.settings.Use(func(c config) error { first = c.Redis.URL.Reveal(); return nil }))
	require.NoError(t, b.settings.Use(func(c config) error {
		if c.Redis.URL != "one" {
			return errors.New("no certificate")
		}
		return nil
	}))
	b.write("LEDGERFEED_REDIS_URL_FILE", "two")
	require.Equal(t, "no certificate", b.line(refused, 1)["error"])
	require.Equal(t, "one", b.settings.Get().Redis.URL.Reveal())
	require.Equal(t, "one", first)
}

func TestSettings_OthersNeedARestart(t *testing.T) {
	b := setup(t, map[string]string{"LEDGERFEED_REDIS_URL_FILE": "one", "LEDGERFEED_QBO_CLIENT_ID_FILE": "app", "LEDGERFEED_CONFIG": "redis:\n  cluster: false\n"})
	require.NoError(t, b.settings.Use(func(c config) error {
		if c.Redis.URL != "one" {
			return &reload.RestartError{Keys: []string{"redis.url"}}
		}
		return nil
	}))
	b.write("LEDGERFEED_CONFIG", "redis:\n  cluster: true\n")
	require.Equal(t, []any{"redis.cluster"}, b.line(restart, 1)["settings"])
	b.write("LEDGERFEED_REDIS_URL_FILE", "elsewhere")
	require.Equal(t, []any{"redis.cluster", "redis.url"}, b.line(restart, 2)["settings"])
	b.write("LEDGERFEED_QBO_CLIENT_ID_FILE", "other")
	require.Equal(t, []any{"qbo.client_id"}, b.line(reloaded, 1)["settings"])
	running := b.settings.Get()
	require.False(t, running.Redis.Cluster)
	require.Equal(t, "one", running.Redis.URL.Reveal())
	require.Equal(t, "other", running.QBO.ClientID)
}

func TestSettings_ReadAgainOnSIGHUP(t *testing.T) {
	b := setup(t, map[string]string{"LEDGERFEED_REDIS_URL_FILE": "one"})
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Equal(t, "SIGHUP", b.line("settings read again, nothing has changed", 1)["reason"])
}

func TestLoad_RefusesWhatCannotBeUsed(t *testing.T) {
	_, err := reload.Load([]string{"LEDGERFEED_REDIS_URL=broken"}, func() config { return config{} }, nil)
	require.ErrorContains(t, err, "cannot be used")
	require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(err))
}

// A secret that every user of the machine may read is named at the start, and no other.
func TestSettings_WarnOfSecretsThatOthersMayRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // others enter it
	open, own := filepath.Join(dir, "url"), filepath.Join(dir, "id")
	require.NoError(t, os.WriteFile(open, []byte("redis://secret"), 0o600))
	require.NoError(t, os.Chmod(open, 0o644))
	require.NoError(t, os.WriteFile(own, []byte("id"), 0o644))
	b := setup(t, nil, "LEDGERFEED_REDIS_URL_FILE="+open, "LEDGERFEED_QBO_CLIENT_ID_FILE="+own)
	line := b.line("secret file is readable by every user", 1)
	require.Equal(t, []any{"redis.url"}, line["settings"])
	require.Equal(t, open, line["file"])
	require.Equal(t, 1, b.logs.FilterMessage("secret file is readable by every user").Len(), "the client id is no secret")
}
