package k8s_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/cli"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// program is what a component's configuration comes to.
type program struct {
	admin string        // listen address of the admin endpoint
	http  string        // of the public one; empty for none
	drain time.Duration // longest stop after SIGTERM
	image string        // the last part of its name
	bound int64         // the memory it takes at most by its settings, in bytes; 0 is not known
	heap  int64         // the memory limit of the runtime that goes with it
}

// closing is for what is closed after the drain: the admin endpoint, which waits
// five seconds for an answer in the making, and the servers' connections.
const closing = 10 * time.Second

// load reads the settings of a component as its program does: an unknown setting
// and a wrong value are errors.
func load(component string, environ []string) (program, error) {
	switch component {
	case "ingress":
		cfg := ingress.DefaultConfig()
		err := config.Load(&cfg, "", environ)
		return program{
			admin: cfg.Admin.Listen, http: cfg.Ingress.Listen, drain: cfg.Ingress.DrainTimeout + closing, image: component,
			bound: cfg.Ingress.MemoryBound(), heap: cfg.Ingress.RuntimeLimit(),
		}, err
	case "processor":
		cfg := processor.DefaultConfig()
		err := config.Load(&cfg, "", environ)
		return program{admin: cfg.Admin.Listen, drain: cfg.Processor.DrainTimeout + 15*time.Second + closing, image: component}, err
	case "reconciler":
		cfg := reconciler.DefaultConfig()
		err := config.Load(&cfg, "", environ)
		return program{admin: cfg.Admin.Listen, drain: lifecycle.DefaultStopTimeout + closing, image: component}, err
	case "console":
		cfg := cli.DefaultConsoleConfig()
		err := config.Load(&cfg, "", environ)
		return program{admin: cfg.Admin.Listen, http: cfg.Console.Listen, drain: lifecycle.DefaultStopTimeout, image: "ledgerfeed"}, err
	}
	return program{}, fmt.Errorf("nobody here knows the program of component %q", component)
}

// binaries compares our workloads with their programs. served are the paths that
// the admin endpoint knows.
func (c *cluster) binaries(r *report, dir string, served func(path string) bool) {
	for _, w := range c.components() {
		where := w.kind + " " + w.name
		container := w.pod.Spec.Containers[0]
		p, err := load(w.pod.Labels["app.kubernetes.io/component"], c.environ(w, container, dir))
		if err != nil {
			r.add("%s: %v", where, strings.ReplaceAll(err.Error(), dir, ""))
			continue
		}
		c.serves(r, where, container, p, served)
		c.stops(r, where, w, container, p)
		if !strings.HasSuffix(imageName(container.Image), "/"+p.image) {
			r.add("%s: runs the image %s", where, container.Image)
		}
		if u := w.pod.Spec.SecurityContext.RunAsUser; u == nil || *u != 65532 {
			r.add("%s: does not run as the user of the image, 65532", where)
		}
	}
}

// settings reads those of the job that sets up, as `ledgerfeed setup` does.
func (c *cluster) settings(r *report, dir string) {
	for _, w := range c.jobs() {
		cfg := cli.DefaultSetupConfig()
		if err := config.Load(&cfg, "", c.environ(w, w.pod.Spec.Containers[0], dir)); err != nil {
			r.add("%s %s: %v", w.kind, w.name, strings.ReplaceAll(err.Error(), dir, ""))
		}
	}
	for _, w := range append(c.components(), c.jobs()...) {
		for _, v := range w.pod.Spec.Volumes {
			if v.Secret != nil {
				c.owned(r, w, v.Secret.SecretName)
			}
		}
	}
}

// owned reports a key or password of a user that is another's.
func (c *cluster) owned(r *report, w workload, secret string) {
	component := w.pod.Labels["app.kubernetes.io/component"]
	for _, server := range []string{"nats-", "redis-", "postgres-"} {
		user, of := strings.CutPrefix(secret, server)
		if user == "writer" {
			user = "processor"
		}
		if of && user != component {
			r.add("%s %s: has the secret %s, which is not its own", w.kind, w.name, secret)
		}
	}
}

func imageName(image string) string {
	name, _, _ := strings.Cut(image, ":")
	return name
}

// serves compares ports and probes.
func (c *cluster) serves(r *report, where string, container corev1.Container, p program, served func(string) bool) {
	for name, listen := range map[string]string{"admin": p.admin, "http": p.http} {
		found := ""
		for _, port := range container.Ports {
			if port.Name == name {
				found = fmt.Sprintf(":%d", port.ContainerPort)
			}
		}
		if found != listen {
			r.add("%s: port %s is %q, and the program listens at %q", where, name, found, listen)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startup": container.StartupProbe, "readiness": container.ReadinessProbe, "liveness": container.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			r.add("%s: no %s probe by HTTP", where, name)
			continue
		}
		if probe.HTTPGet.Port.String() != "admin" || !served(probe.HTTPGet.Path) {
			r.add("%s: %s probe: the program serves no %s at port %s", where, name, probe.HTTPGet.Path, probe.HTTPGet.Port.String())
		}
	}
	if probe := container.ReadinessProbe; probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Path != "/readyz" {
		r.add("%s: is ready by %s", where, probe.HTTPGet.Path)
	}
	if probe := container.LivenessProbe; probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Path == "/readyz" {
		r.add("%s: is restarted when a server it needs is away", where)
	}
}

// stops compares the grace period with the drain, and the memory.
func (c *cluster) stops(r *report, where string, w workload, container corev1.Container, p program) {
	pause := time.Duration(0)
	if l := container.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		pause = time.Duration(l.PreStop.Sleep.Seconds) * time.Second
	}
	grace := time.Duration(0)
	if s := w.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	if grace < pause+p.drain {
		r.add("%s: is killed after %s, and may need %s to stop", where, grace, pause+p.drain)
	}
	if p.http != "" && pause == 0 {
		r.add("%s: stops before the load balancers know", where)
	}
	if limit := container.Resources.Limits.Memory().Value(); p.bound > limit {
		r.add("%s: takes up to %d MiB by its settings, and may have %d", where, p.bound>>20, limit>>20)
	}
	for _, e := range container.Env {
		if e.Name != "GOMEMLIMIT" {
			continue
		}
		if want := fmt.Sprintf("%dMiB", p.heap>>20); p.heap > 0 && e.Value != want {
			r.add("%s: GOMEMLIMIT %s is not the %d MiB that go with its settings", where, e.Value, p.heap>>20)
		}
		var mebi int64
		if _, err := fmt.Sscanf(e.Value, "%dMiB", &mebi); err != nil || mebi<<20 >= container.Resources.Limits.Memory().Value() {
			r.add("%s: GOMEMLIMIT %s is not below the limit", where, e.Value)
		}
	}
}

// filled are values for what an operator has to fill in.
var filled = map[string]string{
	"ingress-apps/apps": "production=verifier-token-1", "intuit-app/client-id": "id", "intuit-app/client-secret": "secret",
	"redis-processor/sentinel-password": "word", "redis-reconciler/sentinel-password": "word", "redis-console/sentinel-password": "word",
	"connection-keys/keys": "k1:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "console/token": "0123456789abcdef", "console/session-key": "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}

// fillIn is the value of a secret's key, as an operator would have filled it in.
func fillIn(secret, key, value string) string {
	if key == "ca.crt" && value == "" {
		text, _ := os.ReadFile(filepath.Join("..", "compose", "demo", "ca.crt")) // without it the program reports it
		return string(text)
	}
	if f, ok := filled[secret+"/"+key]; ok && (value == "" || strings.HasSuffix(value, "=")) {
		return f
	}
	return value
}

// environ is the environment of a container, with the files of its secrets in dir.
func (c *cluster) environ(w workload, container corev1.Container, dir string) (environ []string) {
	mounts := map[string]string{}
	for _, m := range container.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	for _, v := range w.pod.Spec.Volumes {
		if v.Secret == nil || c.secret(v.Secret.SecretName) == nil {
			continue
		}
		for _, item := range v.Secret.Items {
			value := fillIn(v.Secret.SecretName, item.Key, string(c.secret(v.Secret.SecretName).Data[item.Key]))
			name := filepath.Join(dir, mounts[v.Name], item.Path)
			if os.MkdirAll(filepath.Dir(name), 0o700) == nil {
				_ = os.WriteFile(name, []byte(value), 0o600) // what is missing is reported by the program
			}
		}
	}
	for name, value := range c.environment(w, container) {
		if strings.HasSuffix(name, "_FILE") && strings.HasPrefix(value, "/") {
			value = filepath.Join(dir, value)
		}
		environ = append(environ, name+"="+value)
	}
	return environ
}

// served asks a running admin endpoint, the one that every service has.
func served(t *testing.T) func(path string) bool {
	t.Helper()
	admin, err := telemetry.NewAdmin(telemetry.AdminOptions{Listen: "127.0.0.1:0", Gatherer: prometheus.NewRegistry()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return func(path string) bool {
		resp, err := http.Get("http://" + admin.Addr() + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}

var metricName = regexp.MustCompile(`ledgerfeed_[a-z_]+`)

// scaling compares the triggers with the consumers and metrics there are. known
// are the metrics of the programs.
func (c *cluster) scaling(r *report, known func(metric string) bool) {
	for _, s := range c.scaled {
		consumers := map[string]bool{}
		for _, trigger := range s.Spec.Triggers {
			m := trigger.Metadata
			switch trigger.Type {
			case "nats-jetstream":
				if m["stream"] != stream.EventStream {
					r.add("ScaledObject %s: there is no stream %s", s.Name, m["stream"])
				}
				consumers[m["consumer"]] = true
				c.monitored(r, s.Name, m["natsServerMonitoringEndpoint"])
			case "prometheus":
				for _, name := range metricName.FindAllString(m["query"], -1) {
					if !known(name) {
						r.add("ScaledObject %s: no program has the metric %s", s.Name, name)
					}
				}
			default:
				r.add("ScaledObject %s: trigger %s is of a kind nobody here checks", s.Name, trigger.Type)
			}
		}
		for g := range stream.Groups {
			name := stream.GroupDurable("processor", g)
			if !consumers[name] {
				r.add("ScaledObject %s: nothing asks for the consumer %s", s.Name, name)
			}
			delete(consumers, name)
		}
		for name := range consumers {
			r.add("ScaledObject %s: there is no consumer %s", s.Name, name)
		}
	}
}

// monitored checks that an endpoint is the monitoring port of the broker.
func (c *cluster) monitored(r *report, name, endpoint string) {
	host, port, _ := strings.Cut(endpoint, ":")
	host, namespace, _ := strings.Cut(host, ".")
	s := c.service(host)
	if s == nil || namespace != "ledgerfeed" {
		r.add("ScaledObject %s: %s is no service", name, endpoint)
		return
	}
	for _, p := range s.Spec.Ports {
		if p.Name == "monitor" && fmt.Sprint(p.Port) == port {
			return
		}
	}
	r.add("ScaledObject %s: %s is not the monitoring port of the broker", name, endpoint)
}
