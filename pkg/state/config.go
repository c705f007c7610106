package state

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Config says where Redis is.
type Config struct {
	URL     secret.String `koanf:"url" live:"true" doc:"Redis URL: redis://user:password@host:port/db, or rediss:// for TLS; percent-encode the password. User and password are reloaded when its file changes and on SIGHUP."`
	Cluster bool          `koanf:"cluster" doc:"Set if the URL names a node of a Redis Cluster; add more nodes by ?addr=HOST:PORT&addr=HOST:PORT."`
	// Sentinel is about which server to write to; user, password and database of URL
	// are Redis's own.
	Sentinel         string        `koanf:"sentinel" doc:"Name of the master where the URL names a Sentinel that says which server it is; more Sentinels by ?addr=HOST:PORT&addr=HOST:PORT. User, password and database of the URL are those of Redis, redis.sentinel_user and redis.sentinel_password those of the Sentinels. Empty: the URL is Redis itself."`
	SentinelUser     string        `koanf:"sentinel_user" doc:"User at the Sentinels, with redis.sentinel_password; empty for their default user."`
	SentinelPassword secret.String `koanf:"sentinel_password" doc:"Password at the Sentinels; empty if they require none."`
	// The files of TLS, where the URL is rediss://.
	CAFile         string `koanf:"ca_file" doc:"PEM file with certificate authorities for Redis; empty for the system's."`
	ClientCertFile string `koanf:"client_cert_file" doc:"PEM file with the client certificate for Redis (mTLS). Read for each connection."`
	ClientKeyFile  string `koanf:"client_key_file" doc:"PEM file with the key of that certificate."`
}

// DefaultConfig is a Redis on this machine.
func DefaultConfig() Config { return Config{URL: "redis://127.0.0.1:6379/0"} }

// Validate reports what is wrong with the settings. The text never quotes the
// URL, since the part that is wrong may be half of a password.
func (c Config) Validate() error {
	_, _, err := c.dial(nil, newLogin(c))
	return err
}

// login is what new connections log in with.
type login struct{ current atomic.Pointer[url.Userinfo] }

func newLogin(c Config) *login {
	l := &login{}
	l.current.Store(c.user())
	return l
}

// user is nil where the URL has none, or cannot be read.
func (c Config) user() *url.Userinfo {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return nil
	}
	return u.User
}

// place is the URL without what logs in.
func (c Config) place() string {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

func (l *login) get(context.Context) (user, password string, err error) {
	u := l.current.Load()
	password, _ = u.Password()
	return u.Username(), password, nil
}

// errURL names no part of the URL, see Validate.
var errURL = errors.New("redis.url: want redis://[user:password@]host:port[/db], a password percent-encoded")

// connected is called with each new connection.
type connected func(context.Context, *redis.Conn) error

// dial makes a client, which connects on first use, and the address to name it by.
func (c Config) dial(hook connected, l *login) (redis.UniversalClient, string, error) {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil || u.Host == "" || u.Fragment != "" {
		return nil, "", errURL
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, "", fmt.Errorf("%w; not %s://", errURL, u.Scheme)
	}
	secured, err := c.tls(u)
	if err != nil {
		return nil, "", err
	}
	if c.Sentinel != "" {
		return c.dialSentinel(u, hook, secured, l)
	}
	if c.Cluster {
		o, err := redis.ParseClusterURL(c.URL.Reveal())
		if err != nil || len(o.Addrs) == 0 {
			return nil, "", errURL
		}
		o.ContextTimeoutEnabled = true
		o.OnConnect = hook
		secured(o.TLSConfig)
		o.Dialer = c.dialer(o.TLSConfig)
		o.CredentialsProviderContext = l.get
		o.MaintNotificationsConfig = noMaintNotifications()
		o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
		o.ReadTimeout = cmp.Or(o.ReadTimeout, callTimeout)
		o.WriteTimeout = cmp.Or(o.WriteTimeout, callTimeout)
		o.PoolSize = cmp.Or(o.PoolSize, poolSize)
		return redis.NewClusterClient(o), o.Addrs[0], nil
	}
	o, err := redis.ParseURL(c.URL.Reveal())
	if err != nil {
		return nil, "", errURL
	}
	o.ContextTimeoutEnabled = true
	o.OnConnect = hook
	secured(o.TLSConfig)
	o.Dialer = c.dialer(o.TLSConfig)
	o.CredentialsProviderContext = l.get
	o.MaintNotificationsConfig = noMaintNotifications()
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeout)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, callTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, callTimeout)
	o.PoolSize = cmp.Or(o.PoolSize, poolSize)
	return redis.NewClient(o), o.Addr, nil
}

// dialSentinel makes a client that asks the Sentinels for the master, and again
// when they tell of another one or its connections break.
func (c Config) dialSentinel(u *url.URL, hook connected, secured func(*tls.Config), l *login) (redis.UniversalClient, string, error) {
	if c.Cluster {
		return nil, "", errors.New("redis.sentinel and redis.cluster are both set: a cluster elects its masters by itself, leave one out")
	}
	bare, query := *u, u.Query()
	sentinels := append([]string{u.Host}, query["addr"]...)
	query.Del("addr")
	bare.RawQuery = query.Encode()
	o, err := redis.ParseURL(bare.String())
	if err != nil {
		return nil, "", errURL
	}
	secured(o.TLSConfig)
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName = "" // each server is checked by its own name
	}
	for _, address := range sentinels {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return nil, "", errors.New("redis.url: with redis.sentinel, give every Sentinel as host:port")
		}
	}
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: c.Sentinel, SentinelAddrs: sentinels, SentinelUsername: c.SentinelUser, SentinelPassword: c.SentinelPassword.Reveal(),
		CredentialsProviderContext: l.get, DB: o.DB, TLSConfig: o.TLSConfig, Dialer: c.dialer(o.TLSConfig),
		ContextTimeoutEnabled: true,
		OnConnect:             hook,
		DialTimeout:           cmp.Or(o.DialTimeout, dialTimeout),
		ReadTimeout:           cmp.Or(o.ReadTimeout, callTimeout),
		WriteTimeout:          cmp.Or(o.WriteTimeout, callTimeout),
		PoolSize:              cmp.Or(o.PoolSize, poolSize),
	}), c.Sentinel + " of " + u.Host, nil
}

// tls returns what completes the configuration of a client by rediss://.
func (c Config) tls(u *url.URL) (func(*tls.Config), error) {
	if c.CAFile == "" && c.ClientCertFile == "" && c.ClientKeyFile == "" {
		return func(*tls.Config) {}, nil
	}
	if u.Scheme != "rediss" {
		return nil, errors.New("redis.ca_file and redis.client_cert_file need a redis.url of rediss://")
	}
	if (c.ClientCertFile == "") != (c.ClientKeyFile == "") {
		return nil, errors.New("redis.client_cert_file and redis.client_key_file: set both or none")
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	read := func() (*tls.Certificate, error) {
		own, err := tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile)
		if err != nil {
			return nil, fmt.Errorf("redis.client_cert_file: %w", err)
		}
		return &own, nil
	}
	if c.ClientCertFile != "" {
		if _, err := read(); err != nil {
			return nil, err
		}
	}
	return func(t *tls.Config) {
		if t == nil {
			return // the URL of the cluster or the Sentinel is not by TLS
		}
		t.RootCAs = roots
		if c.ClientCertFile != "" {
			t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
		}
	}, nil
}

// roots are the authorities of CAFile; nil for the system's.
func (c Config) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("redis.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("redis.ca_file: no certificate in %s", c.CAFile)
	}
	return roots, nil
}

// dialer connects with TLS by the authorities that CAFile has at that time; while it cannot
// be read, the last ones count. It is nil where the client's own will do.
func (c Config) dialer(secured *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	if secured == nil || c.CAFile == "" {
		return nil
	}
	var last atomic.Pointer[x509.CertPool]
	last.Store(secured.RootCAs)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if roots, err := c.roots(); err == nil {
			last.Store(roots)
		}
		now := secured.Clone()
		now.RootCAs = last.Load()
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Minute}, Config: now}
		return d.DialContext(ctx, network, address)
	}
}

const (
	dialTimeout = 2 * time.Second
	callTimeout = 5 * time.Second
	poolSize    = 64
)

// noMaintNotifications: Valkey and open-source Redis know no such command.
func noMaintNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
