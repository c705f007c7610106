package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/chaos"
)

type chaosCmd struct {
	Seed   uint64        `default:"1" placeholder:"S" help:"Random seed of the first run; each further run uses the next (${default})."`
	For    time.Duration `default:"1m" placeholder:"D" help:"Duration of changes and faults in each run (${default})."`
	Runs   int           `default:"1" placeholder:"N" help:"Number of runs, each on new servers (${default})."`
	Faults []string      `placeholder:"NAME" help:"Faults to draw from (comma-separated; default: all). See --list."`
	Rate   float64       `default:"40" placeholder:"R" help:"Changes per second across all companies (${default})."`
	Realms int           `default:"3" placeholder:"N" help:"Number of companies that change; one more stays idle (${default})."`
	Settle time.Duration `default:"4m" placeholder:"D" help:"Time allowed for the sinks to match QuickBooks after the last fault (${default})."`
	Dir    string        `placeholder:"DIR" help:"Directory for the files of the runs; those of a failed run are kept."`
	Keep   bool          `help:"Also keep the files of successful runs."`
	Redis  string        `placeholder:"KIND" help:"Redis topology: single, secured, cluster or sentinel (default: drawn from the seed)."`
	Mutant string        `placeholder:"NAME" help:"Build the services with a known bug and expect the run to catch it. See --list."`
	Beside string        `placeholder:"REVISION" help:"Alternate between this version and another git revision at each start of a service."`
	List   bool          `help:"List the faults and bugs, then exit."`
	JSON   bool          `help:"Print only the result, as one JSON object."`
}

// Help is the long help of the command.
func (chaosCmd) Help() string {
	return `Runs the real feed as separate processes on loopback: three brokers, Redis, PostgreSQL, an endpoint, a
simulated QuickBooks, and two replicas each of ingress, processor and reconciler. While the books change,
processes are killed, stopped and started again, links fail, servers forget, and QuickBooks misbehaves, all
drawn from the seed. When the last fault is over, the sinks must become equal to the books, and every
invariant of docs/architecture.md is judged by what QuickBooks changed and what the sinks took.

It needs a checkout of Ledgerfeed, the go tool, redis-server and PostgreSQL; it builds the services and
nats-server itself. A run that fails keeps its files (logs, schedule, deliveries, the books' history), and the
command that repeats it is printed. A run in which too little happened fails as inconclusive.

The last line of the output is JSON: runs, changes, faults, kills, lost, stale, extra, wrong_tombstones,
content_differs (both at the end), wrong_tombstone_ms (the longest meanwhile), duplicates (at the endpoint),
invariants (held, broken or untried, by name) and recovery_ms (the worst).
Exits 0 if every run is good, 1 if not, 2 on wrong use.

Examples:
  ledgerfeed chaos
  ledgerfeed chaos --seed 42 --for 2m --runs 10 --json
  ledgerfeed chaos --faults kill-processor,kill-redis,webhook-loss
  ledgerfeed chaos --beside v1.4.0 --faults restart-ingress,restart-processor,restart-reconciler
  ledgerfeed chaos --mutant ack-before-mark`
}

// Run makes the runs.
func (c *chaosCmd) Run(ctx context.Context, p process) error {
	if c.List {
		_, err := fmt.Fprintf(p.stdout, "faults   %s\nmutants  %s\n", strings.Join(chaos.Faults(), " "), strings.Join(chaos.Mutants(), " "))
		return err
	}
	o := chaos.DefaultOptions()
	o.Seed, o.For, o.Runs, o.Faults, o.Rate, o.Realms = c.Seed, c.For, c.Runs, c.Faults, c.Rate, c.Realms
	o.Redis = c.Redis
	o.Settle, o.Dir, o.Keep, o.Mutant, o.Beside, o.JSON, o.Stdout, o.Stderr = c.Settle, c.Dir, c.Keep, c.Mutant, c.Beside, c.JSON, p.stdout, p.stderr
	if err := o.Validate(); err != nil {
		return lifecycle.Usage(err)
	}
	sum, err := chaos.Run(ctx, o)
	if sum.Runs > 0 {
		fmt.Fprintln(p.stdout, sum.Line())
	}
	return err
}
