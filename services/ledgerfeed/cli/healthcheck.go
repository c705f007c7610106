package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// healthTimeout is shorter than what container engines give a health check.
const healthTimeout = 3 * time.Second

type healthcheckCmd struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:8090/readyz" placeholder:"URL" help:"URL to check (${default})."`
}

// Help is the long help of the command.
func (healthcheckCmd) Help() string {
	return `For container images, which have no shell and no curl. The services have a healthcheck of their own.
Exits 0 if the answer is 200, 1 if it is another one, 3 if there is none within 3s.

Examples:
  ledgerfeed healthcheck
  ledgerfeed healthcheck http://127.0.0.1:8090/sim/realms`
}

// Run asks.
func (c *healthcheckCmd) Run(ctx context.Context) error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" {
		return lifecycle.Usage(fmt.Errorf("%s: give a URL such as http://127.0.0.1:8090/readyz", c.URL))
	}
	ctx, done := context.WithTimeout(ctx, healthTimeout)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return lifecycle.Usage(err)
	}
	// Not the default transport: it would go through a proxy of the environment.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which stands before it already
		}
		return lifecycle.Unreachable(u.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("%s answers %s", u.Host, resp.Status)
	}
	return fmt.Errorf("%s answers %s: %s", u.Host, resp.Status, strings.TrimSpace(string(body)))
}
