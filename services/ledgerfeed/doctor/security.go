package doctor

import (
	"context"
	"maps"
	"net"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// The checks of security. A server on this machine alone needs neither a login nor TLS.
const (
	checkBrokerLogin = "broker-login"
	checkBrokerTLS   = "broker-tls"
	checkRedisLogin  = "redis-login"
	checkRedisTLS    = "redis-tls"
	checkPostgresTLS = "postgres-tls"
	checkConsoleURL  = "console-url"
	checkSessionKey  = "session-key"
	checkSecretFiles = "secret-files"
	checkPprof       = "pprof"
	checkTrail       = "trail"
	checkVersions    = "versions"
	onThisMachine    = "it is on this machine alone"
)

// security looks at what keeps others out.
func (x *exam) security(ctx context.Context) {
	x.brokerSecurity(ctx)
	x.redisSecurity(ctx)
	x.postgresSecurity()
	x.consoleSecurity()
	x.secretFiles()
	x.pprof()
	x.trail(ctx)
	x.versions(ctx)
}

func (x *exam) brokerSecurity(ctx context.Context) {
	if x.broker == nil {
		x.skip(checkBrokerLogin, "start the broker", "the broker does not answer")
		return
	}
	local := localURLs(x.Config.NATS.URL)
	open, err := stream.Anonymous(ctx, x.Config.NATS)
	switch {
	case err != nil:
		x.warn(checkBrokerLogin, "look at nats.url", "whether it takes a client without a login is not known: %v", err)
	case open && local:
		x.ok(checkBrokerLogin, "none; %s", onThisMachine)
	case open:
		x.fail(checkBrokerLogin, "see docs/deployment.md: NATS users with permissions by service", "the broker accepts any client: anyone who can reach it can publish events and delete streams")
	default:
		x.ok(checkBrokerLogin, "a client without a login is refused")
	}
	x.transport(checkBrokerTLS, x.broker.Encrypted(), local, "events cross the network in clear")
}

func (x *exam) transport(check string, encrypted, local bool, risk string) {
	switch {
	case encrypted:
		x.ok(check, "the connection is encrypted")
	case local:
		x.ok(check, "none; %s", onThisMachine)
	default:
		x.warn(check, "use TLS: see docs/deployment.md", "no TLS: %s", risk)
	}
}

func (x *exam) redisSecurity(ctx context.Context) {
	if x.store == nil {
		x.skip(checkRedisLogin, "start Redis", "Redis does not answer")
		return
	}
	local := localURLs(x.Config.Redis.URL.Reveal())
	open, err := state.Anonymous(ctx, x.Config.Redis)
	user, limited, asked := x.store.User(ctx)
	switch {
	case err != nil:
		x.warn(checkRedisLogin, "look at redis.url", "whether it takes a client without a login is not known: %v", err)
	case open && local:
		x.ok(checkRedisLogin, "none; %s", onThisMachine)
	case open:
		x.fail(checkRedisLogin, "set a password, or ACL users, in Redis", "Redis accepts any client: anyone who can reach it can delete tokens and marks")
	case !limited && asked == nil && !local:
		x.warn(checkRedisLogin, "give the services a Redis user with the rights of docs/deployment.md", "the services log in as %s, who may do everything", orUnknown(user))
	default:
		x.ok(checkRedisLogin, "a client without a login is refused")
	}
	x.transport(checkRedisTLS, x.Config.Redis.Encrypted(), local, "tokens (sealed) and passwords cross the network")
}

// postgresSecurity looks at the URLs of the sinks; it opens none.
func (x *exam) postgresSecurity() {
	for _, sink := range x.Config.Processor.Sinks {
		at := strings.Index(sink, "postgres://")
		if at < 0 {
			if at = strings.Index(sink, "postgresql://"); at < 0 {
				continue
			}
		}
		u, err := url.Parse(sink[at:])
		if err != nil {
			continue // the checks of the sinks say so
		}
		mode := u.Query().Get("sslmode")
		switch local := localHost(u.Hostname()); {
		case local:
			x.ok(checkPostgresTLS, "sslmode %s; %s", orUnknown(mode), onThisMachine)
		case mode != "verify-full":
			x.warn(checkPostgresTLS, "add sslmode=verify-full and sslrootcert to the sink's URL: everything less encrypts, and authenticates nobody", "%s: sslmode is %s", u.Host, orUnknown(mode))
		case u.User.Username() == "postgres":
			x.warn(checkPostgresTLS, "write as a user that owns its schema alone", "%s: the sink writes as the superuser postgres", u.Host)
		default:
			x.ok(checkPostgresTLS, "%s: sslmode %s", u.Host, mode)
		}
	}
}

func (x *exam) consoleSecurity() {
	c := x.Config.Console
	if telemetry.IsLoopback(c.Listen) {
		x.ok(checkConsoleURL, "the console listens on this machine alone")
		return
	}
	if !strings.HasPrefix(c.PublicURL, "https://") {
		x.fail(checkConsoleURL, "set console.public_url to its https address", "console.listen is %s and console.public_url %q: sessions cross the network in clear", c.Listen, c.PublicURL)
	} else {
		x.ok(checkConsoleURL, "%s", c.PublicURL)
	}
	probe := DefaultConfig()
	values, _ := config.Explain(&probe, "", x.Environ) // what is wrong was said at the start
	for _, v := range values {
		switch {
		case v.Key != "console.session_key":
		case v.Value == "":
			x.warn(checkSessionKey, "set console.session_key to 32 random bytes (openssl rand -hex 32), the same for all replicas", "none is set: a restart ends every session, and replicas do not know each other's")
		default:
			x.ok(checkSessionKey, "set")
		}
	}
}

func (x *exam) secretFiles() {
	probe := DefaultConfig()
	files := config.SecretFiles(&probe, "", x.Environ)
	for key, path := range map[string]string{
		"ingress.tls_key_file": x.Config.Ingress.TLSKeyFile, "nats.credentials_file": x.Config.NATS.CredentialsFile,
		"redis.client_key_file": x.Config.Redis.ClientKeyFile,
	} {
		if path != "" {
			files[key] = path
		}
	}
	exposed := 0
	for _, key := range slices.Sorted(maps.Keys(files)) {
		if config.Exposed(files[key]) {
			exposed++
			x.fail(checkSecretFiles, "chmod 600, and give it to the user of the program", "%s (%s) is readable by every user of this machine", files[key], key)
		}
	}
	switch {
	case len(files) == 0:
		x.skip(checkSecretFiles, "give secrets by files (LEDGERFEED_…_FILE): anyone who inspects the process can read its environment", "no setting names a file")
	case exposed == 0:
		x.ok(checkSecretFiles, "%d files, none readable by others", len(files))
	}
}

func (x *exam) pprof() {
	switch a := x.Config.Admin; {
	case a.Pprof && !telemetry.IsLoopback(a.Listen) && a.Listen != telemetry.Off:
		x.warn(checkPprof, "unset admin.pprof, or let admin.listen be a loopback address", "profiles are served at %s to anyone who can reach it", a.Listen)
	default:
		x.ok(checkPprof, "profiles are served on this machine alone")
	}
}

// trail looks whether actions are still recorded.
func (x *exam) trail(ctx context.Context) {
	if x.broker == nil || x.store == nil {
		x.skip(checkTrail, "start the broker and Redis", "whether actions are recorded is not known")
		return
	}
	u, err := x.broker.ActionUsage(ctx)
	if err != nil {
		x.warn(checkTrail, "let the user of the console read the stream "+stream.ActionStream, "%v", err)
		return
	}
	waiting, err := x.store.QueuedActions(ctx, 1)
	switch {
	case err == nil && len(waiting) > 0:
		x.warn(checkTrail, "run ledgerfeed actions: it stores them, or says why not", "actions wait in Redis, since %s did not take them", u.Stream)
	case u.MaxBytes > 0 && float64(u.Bytes) > nearlyFull*float64(u.MaxBytes):
		x.warn(checkTrail, "raise nats.actions_max_bytes: a full trail leaves actions in the log alone", "%s holds %d of %d bytes", u.Stream, u.Bytes, u.MaxBytes)
	default:
		x.ok(checkTrail, "%d actions", u.Messages)
	}
}

// versions names them, and warns of a broker that is older than the one this version was
// tested with.
func (x *exam) versions(ctx context.Context) {
	text := "ledgerfeed " + lifecycle.Version() + ", " + runtime.Version()
	tested := testedBroker()
	old := ""
	if x.broker != nil {
		if d, err := x.broker.Durability(ctx); err == nil {
			for _, s := range d.Servers {
				text += ", nats-server " + orUnknown(s.Version)
				if v := "v" + s.Version; semver.IsValid(v) && semver.IsValid(tested) && semver.Compare(v, tested) < 0 {
					old = s.Version
				}
			}
		}
	}
	if x.store != nil {
		if s, err := x.store.Server(ctx); err == nil {
			text += ", " + s.Product + " " + orUnknown(s.Version)
		}
	}
	if old != "" {
		x.warn(checkVersions, "upgrade nats-server to "+strings.TrimPrefix(tested, "v"), "%s: nats-server %s is older than what this version was tested with", text, old)
		return
	}
	x.ok(checkVersions, "%s", text)
}

// testedBroker is the version of the embedded one.
func testedBroker() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/nats-io/nats-server/v2" {
			return m.Version
		}
	}
	return ""
}

// localURLs reports whether all servers of a list of URLs are on this machine.
func localURLs(list string) bool {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || !localHost(u.Hostname()) {
			return false
		}
	}
	return true
}

// localHost: an empty host is a socket of this machine.
func localHost(host string) bool {
	return host == "" || telemetry.IsLoopback(net.JoinHostPort(host, "0"))
}
