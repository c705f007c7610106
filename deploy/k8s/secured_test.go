package k8s_test

import "strings"

// secured checks that every way to NATS, Redis and PostgreSQL is by TLS, with a name that is
// checked, and that the servers of the overlay know their users.
func (c *cluster) secured(r *report) {
	for _, m := range c.configMaps {
		name := strings.SplitN(m.Name, "-", 2)[0]
		if text, ok := m.Data["nats.conf"]; ok {
			securedNATS(r, "nats.conf of "+name, text)
		}
		if text, ok := m.Data["redis.conf"]; ok {
			securedRedis(r, "redis.conf of "+name, text)
		}
		for setting, value := range m.Data {
			switch {
			case setting == "LEDGERFEED_PROCESSOR_SINKS" && strings.Contains(value, "postgres:") && !strings.Contains(value, "sslmode=verify-full"):
				r.add("%s: sslmode is not verify-full", setting)
			case setting == "LEDGERFEED_NATS_URL" && strings.Contains(value, "nats://"):
				r.add("%s: not tls://", setting)
			}
		}
		if m.Data["LEDGERFEED_NATS_URL"] != "" && (m.Data["LEDGERFEED_NATS_CA_FILE"] == "" || m.Data["LEDGERFEED_NATS_SETUP"] != "verify") {
			r.add("settings: nats.ca_file is not set, or nats.setup is not verify")
		}
	}
	for _, s := range c.secrets {
		if url, ok := s.Data["url"]; ok && !strings.HasPrefix(string(url), "rediss://") {
			r.add("secret %s: not rediss://", s.Name)
		}
	}
}

func securedNATS(r *report, what, text string) {
	server, cluster, several := strings.Cut(text, "\ncluster {")
	if !strings.Contains(server, "\ntls {") {
		r.add("%s: no tls", what)
	}
	if !strings.Contains(server, "\ninclude 'authorization.conf'") {
		r.add("%s: no users", what)
	}
	if several && (!strings.Contains(cluster, "tls {") || !strings.Contains(cluster, "verify: true")) {
		r.add("%s: routes ask for no certificate", what)
	}
	if several && !strings.Contains(cluster, "nats_routes") {
		r.add("%s: routes ask for no password", what)
	}
}

func securedRedis(r *report, what, text string) {
	lines := strings.Split(text, "\n")
	has := func(line string) bool {
		for _, l := range lines {
			if strings.HasPrefix(l, line) {
				return true
			}
		}
		return false
	}
	if !has("port 0") || !has("tls-port 6379") {
		r.add("%s: takes clients without TLS", what)
	}
	if !has("aclfile /run/secrets/redis_users") {
		r.add("%s: no aclfile", what)
	}
}
