package behaviour_test

import (
	"flag"
	"os"
	"testing"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

var update = flag.Bool("update", false, "write the measured table to docs/behaviour.md")

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }
