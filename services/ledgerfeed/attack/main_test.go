package attack_test

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

// full makes the attacks of mass as large as a hostile sender of one machine can;
// without it they are small enough to run beside other tests.
var full = flag.Bool("attack.full", false, "attack with full force")

// sized is n with full force, and a tenth of it otherwise.
func sized(n int) int {
	if *full {
		return n
	}
	return n / 10
}

// TestMain makes the test binary serve as the programs, too.
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
