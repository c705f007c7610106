package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// Healthcheck asks the admin endpoint of the service that runs on this machine
// with the same environment whether it is ready, and returns the reason if not.
// No answer is [lifecycle.ExitUnreachable].
func Healthcheck(ctx context.Context, environ []string) error {
	cfg := struct {
		Admin AdminConfig `koanf:"admin"`
	}{DefaultAdminConfig()}
	if err := config.Load(&cfg, "", environ); err != nil {
		return err
	}
	if cfg.Admin.Listen == Off {
		return lifecycle.Usage(errors.New("admin.listen is off: there is no endpoint to ask"))
	}
	address, err := local(cfg.Admin.Listen)
	if err != nil {
		return lifecycle.Usage(err)
	}
	ctx, done := context.WithTimeout(ctx, readyTimeout+time.Second)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	// Not the default transport: it would go through a proxy of the environment.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return lifecycle.Unreachable(address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var h health
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &h) != nil {
		return fmt.Errorf("%s answers %s", address, resp.Status)
	}
	return fmt.Errorf("%s: %s", h.Status, h.Reason)
}

// local is where to reach what listens on an address, from the same machine.
func local(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("admin.listen is %q, want host:port", listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}
