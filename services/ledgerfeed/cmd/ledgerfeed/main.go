// Command ledgerfeed is the tool beside the services: it runs the whole feed
// on one machine, and sends and checks webhooks by hand.
//
// It guarantees nothing that the services do not; what it does is in the
// packages cli and dev.
package main

import (
	"os"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/cli"
)

func main() {
	os.Exit(cli.Main(time.Now()))
}
