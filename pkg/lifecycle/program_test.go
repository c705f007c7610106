package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

func TestProgram_RunsWhatTheArgumentsAskFor(t *testing.T) {
	for _, tc := range []struct {
		name           string
		args           []string
		ran            string
		environ        []string
		code           int
		stdout, stderr string
	}{
		{name: "service", ran: "serve", environ: []string{"A=1"}},
		{name: "health", args: []string{"healthcheck"}, ran: "healthcheck", environ: []string{"A=1"}, code: 1, stderr: "prog: not ready\n"},
		{name: "file", args: []string{"--config", "x.yaml"}, ran: "serve", environ: []string{"LEDGERFEED_CONFIG=x.yaml", "A=1"}},
		{name: "file=", args: []string{"healthcheck", "--config=x.yaml"}, ran: "healthcheck", environ: []string{"LEDGERFEED_CONFIG=x.yaml", "A=1"}, code: 1, stderr: "not ready"},
		{name: "no file", args: []string{"--config"}, code: 2, stderr: "flag needs an argument: --config"},
		{name: "version", args: []string{"--version"}, stdout: "prog "},
		{name: "help", args: []string{"-h"}, stdout: "Does nothing."},
		{name: "unknown flag", args: []string{"--port=hunter2"}, code: 2, stderr: "prog: unknown flag: --port (see prog --help)\n"},
		{name: "single dash", args: []string{"-version"}, code: 2, stderr: "unknown shorthand flag: 'v'"},
		{name: "run", args: []string{"run"}, ran: "serve", environ: []string{"A=1"}},
		{name: "unknown command", args: []string{"serve"}, code: 2, stderr: "unexpected argument serve"},
		{name: "second command", args: []string{"run", "healthcheck"}, code: 2, stderr: "unexpected argument healthcheck"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var ran string
			var environ []string
			did := func(what string, err error) func(context.Context, []string) error {
				return func(_ context.Context, env []string) error {
					ran, environ = what, env
					return err
				}
			}
			var stdout, stderr strings.Builder
			p := lifecycle.Program{Name: "prog", Purpose: "Does nothing.", Serve: did("serve", nil), Healthcheck: did("healthcheck", errors.New("not ready"))}
			require.Equal(t, tc.code, p.Main(tc.args, []string{"A=1"}, &stdout, &stderr))
			require.Equal(t, tc.ran, ran)
			require.Empty(t, cmp.Diff(tc.environ, environ))
			require.Contains(t, stdout.String(), tc.stdout)
			require.Equal(t, tc.stdout == "", stdout.Len() == 0)
			require.Contains(t, stderr.String(), tc.stderr)
			require.NotContains(t, stderr.String(), "hunter2")
		})
	}
}
