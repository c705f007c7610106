package stream

import (
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// leastServer is the version of nats-server that every profile and every service needs:
// before it there are no priority groups and no atomic batches, and a processor would
// deliver nothing.
const leastServer = "v2.12.0"

// checkServer returns a *MismatchError where the server is too old to work with.
// Config.AllowMismatch does not allow that.
func (c *Conn) checkServer() error {
	version := c.nc.ConnectedServerVersion()
	if version == "" || semver.Compare("v"+strings.TrimPrefix(version, "v"), leastServer) >= 0 {
		return nil // not connected just now, or new enough
	}
	return &MismatchError{Profile: c.cfg.Profile, Problems: []string{fmt.Sprintf(
		"nats-server at %s is %s, and %s or newer is needed: upgrade it", c.Address(), version, strings.TrimPrefix(leastServer, "v"))}}
}
