// Command reconciler finds the changes of QuickBooks companies that no webhook
// brought and puts them on the stream.
//
// It takes its settings from the environment (LEDGERFEED_…) and the YAML file
// named by --config or LEDGERFEED_CONFIG.
package main

import (
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func main() {
	program := lifecycle.Program{
		Name:        "reconciler",
		Purpose:     "Find the changes no webhook brought, by scans of each connected company.",
		Serve:       reconciler.Serve,
		Healthcheck: telemetry.Healthcheck,
	}
	os.Exit(program.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
