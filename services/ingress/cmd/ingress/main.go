// Command ingress receives Intuit's webhooks and puts them on the stream.
//
// It takes its settings from the environment (LEDGERFEED_…) and the YAML file
// named by --config or LEDGERFEED_CONFIG.
package main

import (
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func main() {
	program := lifecycle.Program{
		Name:        "ingress",
		Purpose:     "Receive Intuit's webhooks, verify them and put them on the stream.",
		Serve:       ingress.Serve,
		Healthcheck: telemetry.Healthcheck,
	}
	os.Exit(program.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
