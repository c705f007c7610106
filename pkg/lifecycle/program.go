package lifecycle

import (
	"context"
	"fmt"
	"io"

	"github.com/alecthomas/kong"
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

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 a server it needs does not answer, 128+n ended by a
second signal.`

// commandLine is what kong reads.
type commandLine struct {
	Config  string           `placeholder:"FILE" help:"YAML file with the settings."`
	Version kong.VersionFlag `help:"Print the version."`

	Run         struct{} `cmd:"" default:"1" help:"Run until SIGINT or SIGTERM, then drain (the default)."`
	Healthcheck struct{} `cmd:"" help:"Exit 0 when the running service is ready."`
}

// Main runs what args (without the program's name) ask for and returns the exit
// code for os.Exit.
func (p Program) Main(args, environ []string, stdout, stderr io.Writer) int {
	run, err := p.parse(args, environ, stdout)
	if err != nil {
		err = Usage(fmt.Errorf("%w (%s --help shows what there is)", err, p.Name))
		return report(stderr, p.Name, err)
	}
	ctx, stop := Context(context.Background())
	defer stop()
	return report(stderr, p.Name, run(ctx))
}

func (p Program) parse(args, environ []string, stdout io.Writer) (run func(context.Context) error, err error) {
	var line commandLine
	answered := false // --help and --version are answered by the parser itself
	parser, err := kong.New(&line, kong.Name(p.Name), kong.Description(p.Purpose+"\n\n"+details),
		kong.Vars{"version": p.Name + " " + Version()}, kong.Writers(stdout, stdout),
		kong.Exit(func(int) { answered = true }))
	if err != nil {
		return nil, fmt.Errorf("build the command line: %w", err)
	}
	parsed, err := parser.Parse(args)
	switch {
	case answered:
		return func(context.Context) error { return nil }, nil
	case err != nil:
		return nil, err
	}
	if line.Config != "" {
		// First, since the first of two is read; and not appended, so that the
		// caller's slice stays as it is.
		environ = append([]string{"LEDGERFEED_CONFIG=" + line.Config}, environ...)
	}
	serve := p.Serve
	if parsed.Command() == "healthcheck" {
		serve = p.Healthcheck
	}
	return func(ctx context.Context) error { return serve(ctx, environ) }, nil
}
