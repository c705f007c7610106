package reconciler_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

// childEnv makes the test binary the service, in a process that a test may kill.
const childEnv = "RECONCILER_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == largeChild {
		os.Exit(lifecycle.ExitCode(serveLarge()))
	}
	if os.Getenv(childEnv) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := reconciler.Serve(ctx, os.Environ())
		stop()
		os.Exit(lifecycle.ExitCode(err))
	}
	goleak.VerifyTestMain(m)
}
