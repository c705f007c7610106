package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const project = "ledgerfeed-e2e"

// engine is docker and docker compose of this machine.
type engine struct {
	root    string
	docker  string
	compose []string
	env     []string
}

// findEngine ends the test with one line where there is none.
func findEngine(t *testing.T) *engine {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	e := &engine{root: root, docker: "docker", env: os.Environ()}
	if old := "/usr/bin/docker"; exec.Command("docker", "buildx", "version").Run() != nil && exec.Command(old, "version").Run() == nil {
		e.docker = old // with BuildKit in it
	}
	if exec.Command(e.docker, "info").Run() != nil {
		t.Fatal("make e2e-compose needs a container engine, and none answers: apt-get install docker.io docker-compose, and start dockerd")
	}
	switch {
	case exec.Command(e.docker, "compose", "version").Run() == nil:
		e.compose = []string{e.docker, "compose"}
	case exec.Command("docker-compose", "version").Run() == nil:
		e.compose = []string{"docker-compose"}
	default:
		t.Fatal("make e2e-compose needs Docker Compose: apt-get install docker-compose")
	}
	return e
}

// run runs a command in the repository and returns what it printed.
func (e *engine) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = e.root, e.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		text := errs.String()
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text[max(0, len(text)-3000):])
	}
	return out.String(), nil
}

func (e *engine) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	// Not the test's context: it is over when the cleanup looks.
	out, err := e.run(context.WithoutCancel(t.Context()), name, args...)
	require.NoError(t, err)
	return out
}

// up is docker compose up with the demo's profile and so many processors.
func (e *engine) up(t *testing.T, processors int) {
	t.Helper()
	args := append(e.compose[1:], "--profile", "demo", "up", "--detach", "--no-build", "--no-recreate", "--scale", fmt.Sprintf("processor=%d", processors))
	e.must(t, e.compose[0], args...)
}

func (e *engine) down(volumes bool) {
	args := append(e.compose[1:], "--profile", "demo", "down", "--timeout", "60")
	if volumes {
		args = append(args, "--volumes")
	}
	_, _ = e.run(context.Background(), e.compose[0], args...)
}

// container is what docker inspect tells of one.
type container struct {
	ID, Name string
	State    struct {
		Running  bool
		ExitCode int
		Health   *struct{ Status string }
	}
	RestartCount int
	Config       struct {
		User   string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs bool
		Memory         int64
		CapDrop        []string
	}
	NetworkSettings struct {
		Ports    map[string][]struct{ HostIp, HostPort string }
		Networks map[string]struct{ IPAddress, Gateway string }
	}
}

func (c container) service() string { return c.Config.Labels["com.docker.compose.service"] }

// ends says that the service does its work and is over: nothing of it runs.
func (c container) ends() bool { return c.service() == "setup" || c.service() == "nats-volume" }

func (c container) healthy() bool {
	if c.ends() {
		return !c.State.Running && c.State.ExitCode == 0
	}
	return c.State.Running && (c.State.Health == nil || c.State.Health.Status == "healthy")
}

// address is where this machine reaches the container: in the network that leads out, if it
// is in one.
func (c container) address() (address string) {
	for network, n := range c.NetworkSettings.Networks {
		if address == "" || strings.HasSuffix(network, "_edge") {
			address = n.IPAddress
		}
	}
	return address
}

// gateway is this machine in the network that leads out.
func (c container) gateway() (gateway string) {
	for network, n := range c.NetworkSettings.Networks {
		if strings.HasSuffix(network, "_edge") {
			gateway = n.Gateway
		}
	}
	return gateway
}

// containers are those of the stack.
func (e *engine) containers(t *testing.T) (all []container) {
	t.Helper()
	ids := strings.Fields(e.must(t, e.docker, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project))
	require.NotEmpty(t, ids)
	out := e.must(t, e.docker, append([]string{"inspect"}, ids...)...)
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	return all
}

// one is the only container of a service.
func (e *engine) one(t *testing.T, service string) container {
	t.Helper()
	for _, c := range e.containers(t) {
		if c.service() == service {
			return c
		}
	}
	t.Fatalf("no container of %s", service)
	return container{}
}

// healthy waits until every container is, and returns how long that took.
func (e *engine) healthy(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	var sick []string
	require.Eventually(t, func() bool {
		sick = nil
		for _, c := range e.containers(t) {
			if !c.healthy() {
				sick = append(sick, c.Name)
			}
		}
		return len(sick) == 0
	}, 3*time.Minute, time.Second, "not healthy: %v", &sick)
	return time.Since(began)
}

// logs shows the end of what every container said.
func (e *engine) logs(t *testing.T) {
	for _, c := range e.containers(t) {
		cmd := exec.Command(e.docker, "logs", "--tail", "30", c.ID)
		out, _ := cmd.CombinedOutput()
		t.Logf("%s, restarts %d:\n%s", c.Name, c.RestartCount, out)
	}
}
