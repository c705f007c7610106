package k8s_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// problems is everything that is wrong with an overlay.
func problems(t *testing.T, dir string) []string {
	t.Helper()
	c, found := read(dir)
	if c == nil {
		return found
	}
	if len(c.secrets) == 0 {
		found = append(found, c.addExample(filepath.Join(dir, "secrets.example.yaml"))...)
	}
	r := &report{problems: found}
	c.restricted(r)
	c.secured(r)
	c.references(r)
	c.network(r)
	c.binaries(r, t.TempDir(), served(t))
	c.settings(r, t.TempDir())
	c.scaling(r, metrics(t))
	slices.Sort(r.problems)
	return slices.Compact(r.problems)
}

// metrics reads the names of the metrics out of the programs' source: to have them
// registered, a program has to run, with a broker and Redis.
func metrics(t *testing.T) func(string) bool {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "..", "services", "processor", "metrics.go"))
	require.NoError(t, err)
	return func(name string) bool {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "ledgerfeed_processor_"), "_bucket")
		return strings.Contains(string(source), `"`+name+`"`)
	}
}

func TestManifests_EveryOverlayIsRight(t *testing.T) {
	for _, name := range overlays(t) {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, problems(t, filepath.Join("overlays", name)))
			c, _ := read(filepath.Join("overlays", name))
			require.Len(t, c.components(), 4)
			t.Logf("%d workloads, %d services, %d policies", len(c.workloads), len(c.services), len(c.policies))
		})
	}
}

// Each mistake is found, in the overlay that has it, with these words.
func TestManifests_MistakesAreFound(t *testing.T) {
	for _, tc := range []struct {
		name, file, old, new string
		overlay              string // production if empty
		want                 string
	}{
		{name: "misspelt field", file: "base/ingress.yaml", old: "minReadySeconds:", new: "minReadySecond:", want: `unknown field "spec.minReadySecond"`},
		{name: "misspelt field of KEDA", file: "components/keda/scaled-object.yaml", old: "pollingInterval:", new: "pollInterval:", want: `unknown field "spec.pollInterval"`},
		{name: "misspelt field of a monitor", file: "components/monitoring/service-monitor.yaml", old: "scrapeTimeout:", new: "timeout:", want: "unknown field"},
		{name: "wrong port", file: "base/processor.yaml", old: "containerPort: 9090", new: "containerPort: 9091", want: `port admin is ":9091", and the program listens at ":9090"`},
		{name: "port that nobody has", file: "base/ingress.yaml", old: "targetPort: http", new: "targetPort: https", want: "Service ingress: port https is none of Deployment ingress"},
		{name: "missing secret", file: "base/processor.yaml", old: "secretName: postgres-writer", new: "secretName: postgresql", want: `secret "postgresql" is missing`},
		{name: "missing key", file: "base/processor.yaml", old: "key: client-id", new: "key: client_id", want: `secret intuit-app has no key "client_id"`},
		{name: "key of another", file: "base/ingress.yaml", old: "secretName: nats-ingress", new: "secretName: nats-setup", want: "has the secret nats-setup, which is not its own"},
		{name: "password of another", file: "base/console.yaml", old: "secretName: redis-console", new: "secretName: redis-processor", want: "has the secret redis-processor, which is not its own"},
		{name: "job: misspelt setting", file: "base/setup.yaml", old: "LEDGERFEED_SETUP_POSTGRES_USER", new: "LEDGERFEED_SETUP_POSTGRES_ROLE", want: "LEDGERFEED_SETUP_POSTGRES_ROLE: unknown setting"},
		{name: "broker without TLS", overlay: "demo", file: "overlays/demo/nats.conf", old: "tls {", new: "nothing {", want: "nats.conf of nats: no tls"},
		{name: "broker without users", file: "components/nats/nats.conf", old: "include 'authorization.conf'", new: "", want: "nats.conf of nats: no users"},
		{name: "routes without TLS", file: "components/nats/nats.conf", old: "verify: true", new: "", want: "nats.conf of nats: routes ask for no certificate"},
		{name: "Redis without TLS", overlay: "demo", file: "overlays/demo/redis.conf", old: "port 0", new: "port 6379", want: "redis.conf of redis: takes clients without TLS"},
		{name: "Redis without users", file: "components/redis/redis.conf", old: "aclfile /run/secrets/redis_users", new: "", want: "redis.conf of redis: no aclfile"},
		{name: "database that is not checked", file: "overlays/production/settings.env", old: "sslmode=verify-full", new: "sslmode=require", want: "LEDGERFEED_PROCESSOR_SINKS: sslmode is not verify-full"},
		{name: "broker that is not checked", file: "base/settings.env", old: "LEDGERFEED_NATS_CA_FILE", new: "LEDGERFEED_NATS_CREDENTIALS_FILE", want: "nats"},
		{name: "Redis that is not checked", overlay: "external", file: "overlays/external/secrets.example.yaml", old: "rediss://console", new: "redis://console", want: "secret redis-console: not rediss://"},
		{name: "missing config map", file: "components/nats/nats.yaml", old: "configMap: {name: nats}", new: "configMap: {name: nats-config}", want: `config map "nats-config" is missing`},
		{name: "missing account", file: "base/reconciler.yaml", old: "serviceAccountName: reconciler", new: "serviceAccountName: default", want: `service account "default" is missing`},
		{name: "token", file: "base/reconciler.yaml", old: "automountServiceAccountToken: false", new: "automountServiceAccountToken: true", want: "gets a token"},
		{name: "root", file: "base/ingress.yaml", old: "runAsNonRoot: true", new: "runAsNonRoot: false", want: "not restricted"},
		{name: "privilege", file: "components/redis/redis.yaml", old: "allowPrivilegeEscalation: false", new: "allowPrivilegeEscalation: true", want: "not restricted"},
		{name: "namespace that allows anything", file: "base/namespace.yaml", old: "enforce: restricted", new: "enforce: baseline", want: "does not enforce"},
		{name: "probe of another path", file: "base/reconciler.yaml", old: "path: /readyz", new: "path: /ready", want: "serves no /ready"},
		{name: "liveness by readiness", file: "base/processor.yaml", old: "livenessProbe:\n            httpGet: {path: /livez", new: "livenessProbe:\n            httpGet: {path: /readyz", want: "restarted when a server it needs is away"},
		{name: "grace shorter than the drain", file: "base/processor.yaml", old: "terminationGracePeriodSeconds: 60", new: "terminationGracePeriodSeconds: 30", want: "is killed after 30s, and may need 45s"},
		{name: "misspelt setting", file: "overlays/production/settings.env", old: "LEDGERFEED_QBO_MONTHLY_CALLS", new: "LEDGERFEED_QBO_MONTHLY_CALL", want: "LEDGERFEED_QBO_MONTHLY_CALL: unknown setting"},
		{name: "wrong value", file: "overlays/production/settings.env", old: "START_JITTER=30m", new: "START_JITTER=30", want: "LEDGERFEED_RECONCILER_START_JITTER"},
		{name: "selector of nobody", file: "base/ingress.yaml", old: "maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: ledgerfeed", new: "maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: ledgerfed", want: "PodDisruptionBudget ingress: is about no workload"},
		{name: "closed way", file: "base/network-policies.yaml", old: "{protocol: TCP, port: 26379}", new: "{protocol: TCP, port: 26380}", want: "no policy lets it go to redis-sentinel-0.redis-sentinel:26379"},
		{name: "closed door", file: "components/nats/nats.yaml", old: "{protocol: TCP, port: monitor}", new: "{protocol: TCP, port: cluster}", want: "no policy lets it in at nats-0.nats:8222"},
		{name: "open to all", file: "base/network-policies.yaml", old: "metadata: {name: default-deny}\nspec:\n  podSelector: {}", new: "metadata: {name: default-deny}\nspec:\n  podSelector: {matchLabels: {app.kubernetes.io/name: ledgerfeed}}", want: "nothing denies"},
		{name: "server that is not there", file: "components/nats/kustomization.yaml", old: "tls://nats-2.nats:4222", new: "tls://nats-2.broker:4222", want: "there is no service nats-2.broker"},
		{name: "two autoscalers", file: "overlays/production/kustomization.yaml", old: "- ../../components/keda", new: "- ../../components/keda\n  - ../../components/hpa", want: "several say how many replicas"},
		{name: "consumer left out", file: "components/keda/scaled-object.yaml", old: "consumer: processor-07", new: "consumer: processor-17", want: "nothing asks for the consumer processor-07"},
		{name: "metric that nobody has", file: "components/keda/scaled-object.yaml", old: "ledgerfeed_processor_oldest_event_age_seconds", new: "ledgerfeed_processor_oldest_age_seconds", want: "no program has the metric"},
		{name: "console without a login", file: "base/console.yaml", old: "            - {name: LEDGERFEED_CONSOLE_TOKEN_FILE, value: /run/secrets/console/token}\n", new: "", want: "can be reached from other machines"},
		{name: "console that asks nobody", file: "base/console.yaml", old: "http://processor-admin:9090", new: "http://processors:9090", want: "there is no service processors"},
		{name: "no certificate", file: "overlays/production/host.yaml", old: "hosts: [webhooks.example.com]", new: "hosts: [hooks.example.com]", want: "has no certificate"},
		{name: "another image", file: "base/processor.yaml", old: "image: ledgerfeed/processor", new: "image: ledgerfeed/reconciler", want: "runs the image"},
		{name: "memory", file: "base/ingress.yaml", old: "value: 231MiB", new: "value: 300MiB", want: "GOMEMLIMIT 300MiB is not below the limit"},
		{name: "memory by the settings", file: "base/ingress.yaml", old: `value: "33554432"`, new: `value: "67108864"`, want: "takes up to 383 MiB by its settings, and may have 256"},
		{name: "memory of the runtime", file: "base/ingress.yaml", old: "value: 231MiB", new: "value: 220MiB", want: "GOMEMLIMIT 220MiB is not the 231 MiB that go with its settings"},
		{name: "demo: claim", overlay: "demo", file: "overlays/demo/quickbooks.yaml", old: "claimName: quickbooks", new: "claimName: books", want: `claim "books" is missing`},
		{name: "external: address", overlay: "external", file: "overlays/external/settings.env", old: "LEDGERFEED_NATS_PROFILE=cluster", new: "LEDGERFEED_NATS_PROFILE=triple", want: "nats.profile"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := copyTree(t)
			file := filepath.Join(dir, filepath.FromSlash(tc.file))
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Contains(t, string(text), tc.old, "the seed does not fit the file any more")
			require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), tc.old, tc.new, 1)), 0o644))
			overlay := tc.overlay
			if overlay == "" {
				overlay = "production"
			}
			found := strings.Join(problems(t, filepath.Join(dir, "overlays", overlay)), "\n")
			require.Contains(t, found, tc.want)
		})
	}
}
