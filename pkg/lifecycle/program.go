package lifecycle

import (
	"context"
	"fmt"
	"io"
	"strings"
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

const help = `%s: %s

Usage:
  %[1]s [--config FILE]               run until SIGINT or SIGTERM, then drain
  %[1]s [--config FILE] healthcheck   exit 0 when the running service is ready
  %[1]s --version
  %[1]s --help

Settings come from the YAML file named by --config or LEDGERFEED_CONFIG, and from
environment variables LEDGERFEED_…, which go before the file.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 a server it needs
does not answer, 128+n ended by a second signal.
`

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
	serve := p.Serve
	for ; len(args) > 0; args = args[1:] {
		flag, file, hasFile := strings.Cut(args[0], "=")
		switch {
		case args[0] == "--help" || args[0] == "-h":
			return func(context.Context) error { return printf(stdout, help, p.Name, p.Purpose) }, nil
		case args[0] == "--version":
			return func(context.Context) error { return printf(stdout, "%s %s\n", p.Name, Version()) }, nil
		case args[0] == "healthcheck":
			serve = p.Healthcheck
		case flag == "--config":
			if !hasFile {
				if len(args) < 2 {
					return nil, fmt.Errorf("--config needs a file")
				}
				file, args = args[1], args[1:]
			}
			// First, since the first of two is read; and not appended, so that
			// the caller's slice stays as it is.
			environ = append([]string{"LEDGERFEED_CONFIG=" + file}, environ...)
		case strings.HasPrefix(args[0], "-"):
			return nil, fmt.Errorf("unknown flag %s", flag)
		default:
			return nil, fmt.Errorf("unknown command %s", args[0])
		}
	}
	return func(ctx context.Context) error { return serve(ctx, environ) }, nil
}

func printf(w io.Writer, format string, a ...any) error {
	_, err := fmt.Fprintf(w, format, a...)
	return err
}
