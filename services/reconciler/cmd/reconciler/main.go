// Command reconciler finds the changes of QuickBooks companies that no webhook
// brought and puts them on the stream.
//
// It takes its settings from the environment (LEDGERFEED_…) and the YAML file
// named by LEDGERFEED_CONFIG.
package main

import (
	"context"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

func main() {
	os.Exit(lifecycle.Main("reconciler", func(ctx context.Context) error {
		return reconciler.Serve(ctx, os.Environ())
	}))
}
