// Command processor delivers the changes of QuickBooks companies to the sinks.
//
// It takes its settings from the environment (LEDGERFEED_…) and the YAML file
// named by --config or LEDGERFEED_CONFIG.
package main

import (
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

func main() {
	program := lifecycle.Program{
		Name:        "processor",
		Purpose:     "Take events from the stream, read what changed and deliver it to the sinks.",
		Serve:       processor.Serve,
		Healthcheck: telemetry.Healthcheck,
	}
	os.Exit(program.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
