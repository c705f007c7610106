package lifecycle

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// Program is the command line that all services share: run the service, check
// its health, print help or the version. Anything else is refused.
type Program struct {
	Name string
	// Purpose is one sentence for the help.
	Purpose string
	// Serve runs the service until ctx ends.
	Serve func(ctx context.Context, environ []string) error
	// Healthcheck returns nil when the service that runs with the same
	// environment is ready. It is for container images that have no curl.
	Healthcheck func(ctx context.Context, environ []string) error
}

const details = `Settings come from the YAML file named by --config or LEDGERFEED_CONFIG, and from environment variables
LEDGERFEED_…, which go before the file; docs/configuration.md lists them.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 the service that healthcheck asks does not answer,
128+n ended by a second signal. A server that the service needs and that does not answer is waited for.`

const usage = `Usage: %s [run | healthcheck] [flags]

%s

%s

Commands:
  run            Run until SIGINT or SIGTERM, then drain (the default).
  healthcheck    Exit 0 when the running service is ready.

Flags:
%s`

// Main runs what args (without the program's name) ask for and returns the exit
// code for os.Exit.
func (p Program) Main(args, environ []string, stdout, stderr io.Writer) int {
	run, err := p.parse(args, environ, stdout)
	if err != nil {
		err = Usage(fmt.Errorf("%w (see %s --help)", err, p.Name))
		return report(stderr, p.Name, err)
	}
	ctx, stop := Context(context.Background())
	defer stop()
	return report(stderr, p.Name, run(ctx))
}

func (p Program) parse(args, environ []string, stdout io.Writer) (run func(context.Context) error, err error) {
	// Not kong, as the ledgerfeed tool has: it looks methods up by name, for which the
	// linker keeps every method of every library, a third of the binary.
	flags := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	help := flags.BoolP("help", "h", false, "Print this help.")
	config := flags.String("config", "", "YAML `FILE` with the settings.")
	version := flags.Bool("version", false, "Print the version.")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	serve := p.Serve
	switch {
	case *help:
		return say(stdout, fmt.Sprintf(usage, p.Name, p.Purpose, details, flags.FlagUsages())), nil
	case *version:
		return say(stdout, p.Name+" "+Version()+"\n"), nil
	case flags.NArg() > 1:
		return nil, fmt.Errorf("unexpected argument %s", flags.Arg(1))
	case flags.Arg(0) == "healthcheck":
		serve = p.Healthcheck
	case flags.Arg(0) != "" && flags.Arg(0) != "run":
		return nil, fmt.Errorf("unexpected argument %s", flags.Arg(0))
	}
	if *config != "" {
		// First, since the first of two is read; and not appended, so that the
		// caller's slice stays as it is.
		environ = append([]string{"LEDGERFEED_CONFIG=" + *config}, environ...)
	}
	return func(ctx context.Context) error { return serve(ctx, environ) }, nil
}

func say(out io.Writer, text string) func(context.Context) error {
	return func(context.Context) error {
		_, err := io.WriteString(out, text)
		return err
	}
}
