package processor_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/postgres"
)

var (
	_ processor.Sink = (*jsonl.Sink)(nil)
	_ processor.Sink = (*postgres.Sink)(nil)
)

func TestProcessorConfig_NamesWhatIsWrong(t *testing.T) {
	require.NoError(t, processor.DefaultProcessorConfig().Validate())
	for name, row := range map[string]struct {
		edit func(*processor.ProcessorConfig)
		want string
	}{
		"batch of none":          {func(c *processor.ProcessorConfig) { c.BatchSize = 0 }, "processor.batch_size 0"},
		"batch of too many":      {func(c *processor.ProcessorConfig) { c.BatchSize = 401 }, "processor.batch_size 401"},
		"window":                 {func(c *processor.ProcessorConfig) { c.CoalesceWindow = -1 }, "processor.coalesce_window -1ns"},
		"parallel":               {func(c *processor.ProcessorConfig) { c.Parallel = 0 }, "processor.parallel 0"},
		"realm parallel":         {func(c *processor.ProcessorConfig) { c.RealmParallel = 0 }, "processor.realm_parallel 0"},
		"ack wait":               {func(c *processor.ProcessorConfig) { c.AckWait = time.Millisecond }, "processor.ack_wait 1ms"},
		"max ack pending":        {func(c *processor.ProcessorConfig) { c.MaxAckPending = 0 }, "processor.max_ack_pending 0"},
		"read timeout":           {func(c *processor.ProcessorConfig) { c.ReadTimeout = 0 }, "processor.read_timeout 0s"},
		"write timeout":          {func(c *processor.ProcessorConfig) { c.WriteTimeout = 0 }, "processor.write_timeout 0s"},
		"drain timeout":          {func(c *processor.ProcessorConfig) { c.DrainTimeout = -time.Second }, "processor.drain_timeout -1s"},
		"two of a name":          {func(c *processor.ProcessorConfig) { c.Sinks = []string{"jsonl:a", "jsonl:b"} }, `duplicate sink name "jsonl"`},
		"no place":               {func(c *processor.ProcessorConfig) { c.Sinks = []string{"jsonl:"} }, "entry 1"},
		"no kind":                {func(c *processor.ProcessorConfig) { c.Sinks = []string{"jsonl:a", "hunter2"} }, "entry 2"},
		"secrets without a name": {func(c *processor.ProcessorConfig) { c.WebhookSecrets = "hunter2" }, "webhook_secrets"},
		"private networks":       {func(c *processor.ProcessorConfig) { c.WebhookAllow = []string{"10.0.0.1"} }, "webhook_allow 10.0.0.1"},
		"tables":                 {func(c *processor.ProcessorConfig) { c.PostgresTables = "many" }, "postgres_tables many"},
		"log kept":               {func(c *processor.ProcessorConfig) { c.PostgresLogKeep = time.Second }, "postgres_log_keep 1s"},
		"file size":              {func(c *processor.ProcessorConfig) { c.JSONLMaxBytes = -1 }, "jsonl_max_bytes -1"},
		"file age":               {func(c *processor.ProcessorConfig) { c.JSONLMaxAge = time.Millisecond }, "jsonl_max_age 1ms"},
		"files kept":             {func(c *processor.ProcessorConfig) { c.JSONLKeep = -1 }, "jsonl_keep -1"},
		"no batch":               {func(c *processor.ProcessorConfig) { c.WebhookBatch = 0 }, "webhook_batch 0"},
		"no name":                {func(c *processor.ProcessorConfig) { c.Sinks = []string{"=postgres://me:hunter2@h/d"} }, "entry 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := processor.DefaultProcessorConfig()
			row.edit(&c)
			err := c.Validate()
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "hunter2", "a URL may hold a password")
		})
	}
}

func TestConfig_EverySettingIsDocumented(t *testing.T) {
	cfg := processor.DefaultConfig()
	for _, f := range config.Describe(&cfg) {
		require.NotEmpty(t, f.Doc, f.Key)
	}
}

func TestOpenSinks_OpensWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	sinks, err := processor.OpenSinks(t.Context(), processor.ProcessorConfig{
		Sinks:          []string{"jsonl:" + filepath.Join(dir, "a"), "archive=jsonl:" + filepath.Join(dir, "b=c:d"), "crm=webhook:https://example.com/hook"},
		WebhookSecrets: "other=whsec_b3RoZXItc2VjcmV0LW9mLTI0LWJ5dGVz; crm=whsec_bmV3LXNlY3JldC1vZi10aGUtZW5kcG9pbnQ=,whsec_b2xkLXNlY3JldC1vZi10aGUtZW5kcG9pbnQ=", WebhookAllow: []string{"10.0.0.0/8"},
	}, nil, nil)
	require.NoError(t, err)
	require.Len(t, sinks, 3)
	require.Equal(t, "crm", sinks[2].Name())
	require.Equal(t, "jsonl", sinks[0].Name())
	require.Equal(t, "archive", sinks[1].Name())
	require.FileExists(t, filepath.Join(dir, "b=c:d"))
	for _, s := range sinks {
		require.NoError(t, s.Close())
	}

	_, err = processor.OpenSinks(t.Context(), processor.ProcessorConfig{Sinks: []string{"jsonl:" + filepath.Join(dir, "a"), "books=postgres://me:hunter2@host:port/x"}}, nil, nil)
	require.ErrorContains(t, err, "open sink books")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = processor.OpenSinks(t.Context(), processor.ProcessorConfig{Sinks: []string{"crm=webhook:https://example.com/hook"}, WebhookSecrets: "other=whsec_b3RoZXItc2VjcmV0LW9mLTI0LWJ5dGVz"}, nil, nil)
	require.ErrorContains(t, err, "open sink crm: webhook sink: no secret to sign with")
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, row := range map[string]struct {
		edit func(*processor.Options)
		want string
	}{
		"no stream":     {func(o *processor.Options) { o.Stream = nil }, "required"},
		"no sink":       {func(o *processor.Options) { o.Sinks = nil }, "no sink"},
		"two of a name": {func(o *processor.Options) { o.Sinks = []processor.Sink{b.a, newMemory("a")} }, `"a"`},
		"no name":       {func(o *processor.Options) { o.Sinks = []processor.Sink{newMemory("")} }, `""`},
		"config":        {func(o *processor.Options) { o.Config.Parallel = 0 }, "processor.parallel"},
	} {
		t.Run(name, func(t *testing.T) {
			o := b.options()
			row.edit(&o)
			_, err := processor.New(o)
			require.ErrorContains(t, err, row.want)
		})
	}
}

// Documents go out without TLS to this machine and to hosts that are named for it alone.
func TestConfig_WebhookSinksNeedTLS(t *testing.T) {
	for target, ok := range map[string]bool{
		"https://crm.example.com/hook": true, "http://127.0.0.1:9000/": true, "http://localhost:9000/": true, "http://crm.internal:9000/": true,
		"http://crm.example.com/hook": false, "http://10.0.0.5/": false,
	} {
		cfg := processor.DefaultProcessorConfig()
		cfg.Sinks, cfg.WebhookHTTPHosts = []string{"crm=webhook:" + target}, []string{"crm.internal"}
		cfg.WebhookSecrets = "crm=whsec_bmV3LXNlY3JldC1vZi10aGUtZW5kcG9pbnQ="
		err := cfg.Validate()
		require.Equal(t, ok, err == nil, "%s: %v", target, err)
		sinks, opened := processor.OpenSinks(t.Context(), cfg, nil, nil)
		require.Equal(t, ok, opened == nil, "%s: %v", target, opened)
		for _, s := range sinks {
			require.NoError(t, s.Close())
		}
		if !ok {
			require.ErrorContains(t, err, "processor.webhook_http_hosts")
		}
	}
}
