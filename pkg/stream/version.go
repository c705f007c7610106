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

// leastPayload is the max_payload that is needed: room for an event and for the headers
// of a dead letter, several times.
const leastPayload = 64 << 10

// checkServer returns a *MismatchError where the server is too old to work with, or takes
// too small messages only. Config.AllowMismatch does not allow that.
func (c *Conn) checkServer() error {
	if n := c.MaxPayload(); n > 0 && n < leastPayload {
		return &MismatchError{Profile: c.cfg.Profile, Problems: []string{fmt.Sprintf(
			"nats-server at %s has max_payload %d, and %d or more is needed: raise it (8MB suits)", c.Address(), n, leastPayload)}}
	}
	version := c.nc.ConnectedServerVersion()
	if version == "" || semver.Compare("v"+strings.TrimPrefix(version, "v"), leastServer) >= 0 {
		return nil // not connected just now, or new enough
	}
	return &MismatchError{Profile: c.cfg.Profile, Problems: []string{fmt.Sprintf(
		"nats-server at %s is %s, and %s or newer is needed: upgrade it", c.Address(), version, strings.TrimPrefix(leastServer, "v"))}}
}
