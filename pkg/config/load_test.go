package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

type settings struct {
	Ingress  ingress `koanf:"ingress"`
	Redis    redis   `koanf:"redis"`
	internal int
}

type ingress struct {
	Listen  string        `koanf:"listen" doc:"Where it listens."`
	Budget  time.Duration `koanf:"budget" doc:"How long an answer may take."`
	MaxBody int64         `koanf:"max_body" doc:"Bytes."`
	Small   uint8         `koanf:"small"`
	Share   float64       `koanf:"share"`
	Strict  bool          `koanf:"strict"`
	Names   []string      `koanf:"names"`
	Limits  struct {
		InFlight int `koanf:"in_flight"`
	} `koanf:"limits"`
}

type redis struct {
	URL  secret.String   `koanf:"url" default:"redis://127.0.0.1:6379/0" doc:"The server."`
	Keys []secret.String `koanf:"keys"`
}

func defaults() settings {
	s := settings{internal: 1}
	s.Ingress.Listen = ":8080"
	s.Ingress.Budget = 90 * time.Minute
	s.Ingress.Names = []string{"a", "b"}
	s.Redis.URL = "redis://default"
	return s
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestLoad_ReadsEveryType(t *testing.T) {
	file := write(t, "lf.yaml", `
ingress:
  listen: 127.0.0.1:1
  budget: 2500ms
  max_body: 1e6
  small: 255
  share: 0.5
  strict: true
  names: [x, "y,z"]
  limits:
    in_flight: 7
redis:
  url: redis://from-file
  keys:
    - one
processor:
  whatever: {of: another service}
`)
	want := defaults()
	want.Ingress = ingress{Listen: "127.0.0.1:1", Budget: 2500 * time.Millisecond, MaxBody: 1e6, Small: 255, Share: 0.5, Strict: true, Names: []string{"x", "y,z"}}
	want.Ingress.Limits.InFlight = 7
	want.Redis = redis{URL: "redis://from-file", Keys: []secret.String{"one"}}

	got := defaults()
	require.NoError(t, config.Load(&got, file, nil))
	require.Equal(t, want, got)

	t.Run("and the environment goes before the file", func(t *testing.T) {
		want.Ingress.Listen = ":2"
		want.Ingress.Budget = time.Second
		want.Ingress.MaxBody = -3
		want.Ingress.Small = 4
		want.Ingress.Share = 1
		want.Ingress.Strict = false
		want.Ingress.Names = []string{"p", "q"}
		want.Ingress.Limits.InFlight = 8
		want.Redis.URL = "redis://from-env"
		want.Redis.Keys = []secret.String{"k1", "k2"}
		got := defaults()
		require.NoError(t, config.Load(&got, "", []string{
			"LEDGERFEED_CONFIG=" + file,
			"LEDGERFEED_INGRESS_LISTEN=:2",
			"LEDGERFEED_INGRESS_BUDGET=1s",
			"LEDGERFEED_INGRESS_MAX_BODY=-3",
			"LEDGERFEED_INGRESS_SMALL=4",
			"LEDGERFEED_INGRESS_SHARE=1",
			"LEDGERFEED_INGRESS_STRICT=false",
			"LEDGERFEED_INGRESS_NAMES= p, q,",
			"LEDGERFEED_INGRESS_LIMITS_IN_FLIGHT=8",
			"LEDGERFEED_REDIS_URL=redis://from-env",
			"LEDGERFEED_REDIS_KEYS=k1,k2",
			"HOME=/root", "NOT_OURS", "LEDGERFEEDX=1",
		}))
		require.Equal(t, want, got)
	})
}

func TestLoad_LeavesAloneWhatIsNotItsOwn(t *testing.T) {
	got := defaults()
	require.NoError(t, config.Load(&got, write(t, "lf.yaml", "nats: {url: x}\nredis:\n"), []string{
		"LEDGERFEED_PROCESSOR_ANYTHING=1",             // a group of another service
		"LEDGERFEED_INGRESS_LISTEN=",                  // empty counts as not set
		"LEDGERFEED_INGRESS_SERVICE_HOST=10.0.0.1",    // what Kubernetes adds for a Service
		"LEDGERFEED_INGRESS_SERVICE_PORT=80",          //
		"LEDGERFEED_INGRESS_SERVICE_PORT_HTTP=80",     //
		"LEDGERFEED_INGRESS_PORT=tcp://10.0.0.1:80",   //
		"LEDGERFEED_INGRESS_PORT_80_TCP=tcp://10:80",  //
		"LEDGERFEED_INGRESS_PORT_80_TCP_PROTO=tcp",    //
		"LEDGERFEED_INGRESS_PORT_80_TCP_PORT=80",      //
		"LEDGERFEED_INGRESS_PORT_80_TCP_ADDR=10.0.01", //
	}))
	require.Equal(t, defaults(), got)
}

func TestLoad_RefusesWithTheSourceAndTheNearestName(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		environ    []string
		want       []string
	}{
		{
			name:    "field in the environment",
			environ: []string{"LEDGERFEED_INGRESS_LISEN=:1"},
			want:    []string{"LEDGERFEED_INGRESS_LISEN: unknown setting, nearest is LEDGERFEED_INGRESS_LISTEN"},
		},
		{
			name:    "group in the environment",
			environ: []string{"LEDGERFEED_INGERSS_LISTEN=:1"},
			want:    []string{"LEDGERFEED_INGERSS_LISTEN: unknown group of settings, nearest is LEDGERFEED_INGRESS_LISTEN"},
		},
		{
			name:    "group of another service in the environment",
			environ: []string{"LEDGERFEED_PROCESOR_SINKS=x"},
			want:    []string{"LEDGERFEED_PROCESOR_SINKS: unknown group of settings, nearest is LEDGERFEED_PROCESSOR_SINKS"},
		},
		{
			name:    "field left out",
			environ: []string{"LEDGERFEED_INGRESS=1"},
			want:    []string{"LEDGERFEED_INGRESS: unknown setting, nearest is LEDGERFEED_INGRESS_"},
		},
		{
			name:    "a port is no link of Kubernetes unless its value is one",
			environ: []string{"LEDGERFEED_INGRESS_PORT=8080"},
			want:    []string{"LEDGERFEED_INGRESS_PORT: unknown setting, nearest is LEDGERFEED_INGRESS_"},
		},
		{
			name:    "file of something that is no secret",
			environ: []string{"LEDGERFEED_INGRESS_LISTEN_FILE=/x"},
			want:    []string{"LEDGERFEED_INGRESS_LISTEN_FILE: unknown setting, nearest is LEDGERFEED_INGRESS_LISTEN"},
		},
		{
			name: "keys of the file",
			file: "ingress:\n  lisen: x\n  limits: 3\n  budget:\ningres:\n  listen: x\nredis: 4\n",
			want: []string{
				"lf.yaml: ingres.listen: unknown setting, nearest is ingress.listen",
				"lf.yaml: ingress.budget: has no value",
				"lf.yaml: ingress.limits: is a group of settings, not a setting",
				"lf.yaml: ingress.lisen: unknown setting, nearest is ingress.listen",
				"lf.yaml: redis: is a group of settings, not a setting",
			},
		},
		{
			name: "values",
			file: "ingress:\n  listen: 007\n  names: 5\n  share: many\n  strict: maybe\n  max_body: 1.5\n",
			environ: []string{
				"LEDGERFEED_INGRESS_BUDGET=5",
				"LEDGERFEED_INGRESS_SMALL=256",
				"LEDGERFEED_INGRESS_LIMITS_IN_FLIGHT=9223372036854775808",
				"LEDGERFEED_REDIS_URL_FILE=/does/not/exist",
				"LEDGERFEED_INGRESS_TYPO=1",
			},
			want: []string{
				`lf.yaml: ingress.listen: 7 is not text (put it in quotes)`,
				`lf.yaml: ingress.names: 5 is not a list`,
				`lf.yaml: ingress.share: "many" is not a number`,
				`lf.yaml: ingress.strict: "maybe" is not a boolean (true or false)`,
				`lf.yaml: ingress.max_body: "1.5" is not an integer from -9223372036854775808 to 9223372036854775807`,
				`LEDGERFEED_INGRESS_BUDGET: "5" is not a duration (a number with a unit: 500ms, 30s, 24h)`,
				`LEDGERFEED_INGRESS_SMALL: "256" is not an integer from 0 to 255`,
				`LEDGERFEED_INGRESS_LIMITS_IN_FLIGHT: "9223372036854775808" is not an integer`,
				`LEDGERFEED_REDIS_URL_FILE: open /does/not/exist: no such file or directory`,
				`LEDGERFEED_INGRESS_TYPO: unknown setting`,
			},
		},
		{
			name:    "a secret twice",
			environ: []string{"LEDGERFEED_REDIS_URL=x", "LEDGERFEED_REDIS_URL_FILE=/x"},
			want:    []string{"LEDGERFEED_REDIS_URL_FILE: contradicts LEDGERFEED_REDIS_URL, set one of them"},
		},
		{
			name: "file that is no YAML",
			file: "ingress: [",
			want: []string{"configuration file", "lf.yaml"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var file string
			if tc.file != "" {
				file = write(t, "lf.yaml", tc.file)
			}
			got := defaults()
			err := config.Load(&got, file, tc.environ)
			require.Error(t, err)
			require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(err))
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			require.GreaterOrEqual(t, len(strings.Split(err.Error(), "\n")), len(tc.want)-strings.Count(tc.name, "no YAML"))
		})
	}
}

func TestLoad_SecretsComeFromFilesAndNeverShow(t *testing.T) {
	got := defaults()
	require.NoError(t, config.Load(&got,
		write(t, "lf.yaml", "redis:\n  keys_file: "+write(t, "keys", "k1\nk2\n")+"\n  url: base\n"),
		[]string{"LEDGERFEED_REDIS_URL_FILE=" + write(t, "url", "redis://:pw@host\r\n")},
	))
	require.Equal(t, redis{URL: "redis://:pw@host", Keys: []secret.String{"k1", "k2"}}, got.Redis)

	for _, content := range []string{"redis:\n  url: [hunter2]\n", "redis:\n  keys: {a: hunter2}\n", "redis:\n  keys: 4711\n", "redis:\n  url: 4711\n"} {
		got := defaults()
		err := config.Load(&got, write(t, "lf.yaml", content), nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "4711")
	}
	empty := defaults()
	require.ErrorContains(t, config.Load(&empty, "", []string{"LEDGERFEED_REDIS_URL_FILE=" + write(t, "url", "\n")}), "is empty")
}

type validated struct {
	Log struct {
		Level string `koanf:"level"`
	} `koanf:"log"`
	called int
}

var errLevel = errors.New("log.level is wrong")

func (v *validated) Validate() error {
	v.called++
	return errLevel
}

func TestLoad_ValidatesWhatCouldBeRead(t *testing.T) {
	var v validated
	err := config.Load(&v, "", nil)
	require.ErrorIs(t, err, errLevel)
	require.Equal(t, lifecycle.ExitUsage, lifecycle.ExitCode(err))
	require.Equal(t, 1, v.called)

	require.NotErrorIs(t, config.Load(&v, "", []string{"LEDGERFEED_LOG_LEVELS=x"}), errLevel)
	require.Equal(t, 1, v.called, "values that could not be read are not validated")
}

func TestLoad_RefusesAStructItCannotFill(t *testing.T) {
	for name, cfg := range map[string]any{
		"no pointer": defaults(),
		"nil":        (*settings)(nil),
		"no tag":     &struct{ A string }{},
		"a map": &struct {
			A map[string]string `koanf:"a"`
		}{},
		"two fields of one name": &struct {
			A struct {
				BC string `koanf:"b_c"`
			} `koanf:"a"`
			B struct {
				C string `koanf:"c"`
			} `koanf:"a_b"`
		}{},
	} {
		require.ErrorContains(t, config.Load(cfg, "", nil), "config: ", name)
		require.Panics(t, func() { config.Describe(cfg) }, name)
	}
}

func TestDescribe_ListsEverySetting(t *testing.T) {
	cfg := defaults()
	want := []config.Field{
		{Env: "LEDGERFEED_INGRESS_LISTEN", Key: "ingress.listen", Type: "string", Default: ":8080", Doc: "Where it listens."},
		{Env: "LEDGERFEED_INGRESS_BUDGET", Key: "ingress.budget", Type: "duration", Default: "1h30m", Doc: "How long an answer may take."},
		{Env: "LEDGERFEED_INGRESS_MAX_BODY", Key: "ingress.max_body", Type: "integer", Default: "0", Doc: "Bytes."},
		{Env: "LEDGERFEED_INGRESS_SMALL", Key: "ingress.small", Type: "integer", Default: "0"},
		{Env: "LEDGERFEED_INGRESS_SHARE", Key: "ingress.share", Type: "number", Default: "0"},
		{Env: "LEDGERFEED_INGRESS_STRICT", Key: "ingress.strict", Type: "boolean", Default: "false"},
		{Env: "LEDGERFEED_INGRESS_NAMES", Key: "ingress.names", Type: "list of string", Default: "a,b"},
		{Env: "LEDGERFEED_INGRESS_LIMITS_IN_FLIGHT", Key: "ingress.limits.in_flight", Type: "integer", Default: "0"},
		{Env: "LEDGERFEED_REDIS_URL", Key: "redis.url", Type: "secret", Default: "redis://127.0.0.1:6379/0", Doc: "The server."},
		{Env: "LEDGERFEED_REDIS_KEYS", Key: "redis.keys", Type: "list of secret"},
	}
	require.Empty(t, cmp.Diff(want, config.Describe(&cfg)))
}

func FuzzLoad(f *testing.F) {
	f.Add("ingress:\n  listen: x\n", "INGRESS_BUDGET", "5s")
	f.Add("redis: {keys: [a, 1, {b: c}]}", "REDIS_KEYS_FILE", "/dev/null")
	f.Add("a.b: {c.d: 1}\n? [x]\n: y", "", "=")
	f.Add("ingress: {limits: [1]}", "INGRESS_LIMITS_IN_FLIGHT", "-1e9")
	f.Fuzz(func(t *testing.T, file, name, value string) {
		path := write(t, "lf.yaml", file)
		if strings.HasSuffix(name, "_FILE") {
			value = path // not whatever the fuzzer finds on the disk
		}
		cfg := defaults()
		_ = config.Load(&cfg, path, []string{config.Prefix + name + "=" + value}) // must not panic
	})
}
