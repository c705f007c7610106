package e2e_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	ingressservice "github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/cli"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

var loadFor = flag.Duration("e2e.for", 4*time.Second, "how long each run loads the simulated books")

// TestMain makes the test binary serve as the ledgerfeed command too: what is
// tested is a process of its own, with its exit code, signals and files.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){
		"ledgerfeed": func() { os.Exit(cli.Main(time.Now())) },
		"ingress":    func() { serve("ingress", ingressservice.Serve) },
		"processor":  func() { serve("processor", processor.Serve) },
		"reconciler": func() { serve("reconciler", reconciler.Serve) },
	})
}

func serve(name string, run func(context.Context, []string) error) {
	program := lifecycle.Program{Name: name, Serve: run, Healthcheck: telemetry.Healthcheck}
	os.Exit(program.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

type tests struct{ m *testing.M }

func (t tests) Run() int { return devtest.Main(t.m) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			body, err := os.ReadFile("testdata/intuit_signed_body.json")
			if err != nil {
				return err
			}
			return os.WriteFile(env.Getenv("WORK")+"/body.json", body, 0o600)
		},
	})
}
