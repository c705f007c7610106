// Command processor takes changes of QuickBooks companies off the stream, reads
// what they changed, and delivers it to the sinks.
//
// It takes its settings from the environment (LEDGERFEED_…) and the YAML file
// named by LEDGERFEED_CONFIG.
package main

import (
	"context"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

func main() {
	os.Exit(lifecycle.Main("processor", func(ctx context.Context) error {
		return processor.Serve(ctx, os.Environ())
	}))
}
