package lifecycle

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// Main runs a program under [Context] and returns its exit code for os.Exit.
// An error is printed on stderr as "name: error"; when it has several lines
// (joined errors), the further ones are indented.
func Main(name string, run func(ctx context.Context) error) int {
	ctx, stop := Context(context.Background())
	defer stop()
	return report(os.Stderr, name, run(ctx))
}

func report(w io.Writer, name string, err error) int {
	code := ExitCode(err)
	if code != ExitOK {
		fmt.Fprintf(w, "%s: %s\n", name, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  "))
	}
	return code
}
