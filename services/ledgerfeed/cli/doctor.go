package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/doctor"
)

type doctorCmd struct {
	tokenFlags `embed:""`
	PublicURL  string `placeholder:"URL" help:"Webhook URL, as registered in Intuit's portal."`
	Tries      int    `default:"20" placeholder:"N" help:"Number of signed test notifications to send (${default})."`
	JSON       bool   `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (doctorCmd) Help() string {
	return `Looks for what keeps webhooks and changes from arriving, and says of each check whether it is ok, what may
become a problem (warn) or is one (fail), and what to do. It changes nothing: the notifications it sends hold no
events, tokens are not refreshed, sinks are not written to. What it needs to know is in the services' own
settings (LEDGERFEED_…, or the file in LEDGERFEED_CONFIG); what is not set is not looked at (skip).

With --public-url: the address of the name, the port, TLS and the certificate as Intuit judges them, the path, a
forged notification (answered 401) and signed ones (answered 200 within 3 seconds). Run it outside of your
network, since it sees what Intuit sees only there. Always: Redis and the broker, whether they keep what they
are given; the clock; connections and the deadlines of their tokens; entities of which no webhook ever came;
the limiter and the month's calls; the sinks; and security: who is let in by the broker and by Redis, TLS,
sslmode, the console's address and session key, files of secrets, profiles, versions.

Exits 0 if nothing failed, 1 if something did, 2 for wrong use or configuration.

Examples:
  ledgerfeed doctor
  ledgerfeed doctor --public-url https://hooks.example.com/webhooks/prod
  ledgerfeed doctor --public-url https://hooks.example.com/webhooks/prod --token-file token.txt
  ledgerfeed doctor --json | jq -r 'select(.level == "fail") | .check + ": " + .do'`
}

// errFindings is told by the lines above it.
var errFindings = errors.New("something has to be mended")

// Run looks.
func (c *doctorCmd) Run(ctx context.Context, p process) error {
	o := doctor.Options{Config: doctor.DefaultConfig(), Environ: os.Environ(), Tries: c.Tries}
	if c.Tries < 1 || c.Tries > 1000 {
		return lifecycle.Usage(fmt.Errorf("--tries %d: give 1 to 1000", c.Tries))
	}
	var err error
	if o.PublicURL, err = c.publicURL(); err != nil {
		return err
	}
	if o.Token, err = c.token(); err != nil {
		return err
	}
	if err := config.Load(&o.Config, "", os.Environ()); err != nil {
		return err
	}
	if o.Logger, err = p.logger(); err != nil {
		return err
	}
	if !c.JSON {
		o.Progress = func(f doctor.Finding) { f.Print(p.stdout) }
	}
	report := doctor.Look(ctx, o)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.JSON {
		err = report.JSON(p.stdout)
	} else {
		_, err = fmt.Fprintln(p.stdout, report.Summary())
	}
	if err == nil && report.Count(doctor.Fail) > 0 {
		err = errFindings
	}
	return err
}

func (c *doctorCmd) publicURL() (*url.URL, error) {
	if c.PublicURL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, lifecycle.Usage(errors.New("--public-url: give the URL as Intuit's portal has it, such as https://hooks.example.com/webhooks/prod"))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, lifecycle.Usage(errors.New("--public-url: give it without a user, a query and a fragment"))
	}
	return u, nil
}
