// Package plainhttp says where requests without TLS may go: to this machine, and to hosts
// that a setting names. Tokens, secrets and documents are in what is sent.
package plainhttp

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Check returns an error for a URL without TLS to a host that is neither this machine nor
// one of hosts; setting is what names them. Hosts are compared without their port.
func Check(u *url.URL, hosts []string, setting string) error {
	host := u.Hostname()
	if u.Scheme != "http" || loopback(host) || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return nil
	}
	return fmt.Errorf("http://%s is without TLS: use https, or name the host in %s", u.Host, setting)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
