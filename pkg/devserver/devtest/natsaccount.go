package devtest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// NATSLimits bound an account, or its server; zero is without a bound.
type NATSLimits struct {
	Storage, Streams, Consumers, Connections int64
	// ServerStorage is max_file_store.
	ServerStorage int64
	MaxPayload    int32
}

// NATSAccount is a NATS server in this process with one account, as NATS services have
// them: users come with a credentials file.
type NATSAccount struct {
	t                 testing.TB
	dir               string
	server            *server.Server
	operator, account nkeys.KeyPair
	id                string
}

// StartNATSAccount starts one.
func StartNATSAccount(t testing.TB, limits NATSLimits) *NATSAccount {
	t.Helper()
	n := &NATSAccount{t: t, dir: t.TempDir()}
	n.operator, n.account = n.key(nkeys.CreateOperator()), n.key(nkeys.CreateAccount())
	system := n.key(nkeys.CreateAccount())
	n.id = n.public(n.account)
	operator := jwt.NewOperatorClaims(n.public(n.operator))
	operator.SystemAccount = n.public(system)
	accounts := &server.MemAccResolver{}
	n.must(accounts.Store(n.id, n.encode(n.claims(limits))))
	n.must(accounts.Store(n.public(system), n.encode(jwt.NewAccountClaims(n.public(system)))))
	trusted, err := jwt.DecodeOperatorClaims(n.encode(operator))
	n.must(err)
	n.server, err = server.NewServer(&server.Options{
		ServerName: "ledgerfeed-test", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: n.dir, JetStreamMaxStore: cmp.Or(limits.ServerStorage, devserver.MaxStore), MaxPayload: limits.MaxPayload,
		TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: accounts, SystemAccount: operator.SystemAccount,
	})
	n.must(err)
	n.server.Start()
	t.Cleanup(func() {
		n.server.Shutdown()
		n.server.WaitForShutdown()
	})
	if !n.server.ReadyForConnections(20 * time.Second) {
		t.Fatal("devtest: NATS takes no connections")
	}
	return n
}

// URL is where clients connect to.
func (n *NATSAccount) URL() string { return "nats://" + n.server.Addr().String() }

// Credentials is the file of a user who may publish and subscribe to these subjects, nil is
// all. It is written again for a name that had one.
func (n *NATSAccount) Credentials(name string, publish, subscribe []string) string {
	n.t.Helper()
	user := n.key(nkeys.CreateUser())
	claims := jwt.NewUserClaims(n.public(user))
	claims.Name = name
	claims.Pub.Allow, claims.Sub.Allow = publish, subscribe
	token, err := claims.Encode(n.account)
	n.must(err)
	seed, err := user.Seed()
	n.must(err)
	text, err := jwt.FormatUserConfig(token, seed)
	n.must(err)
	file := filepath.Join(n.dir, name+".creds")
	n.must(os.WriteFile(file, text, 0o600))
	return file
}

// SetLimits changes the bounds of the account while the server runs.
func (n *NATSAccount) SetLimits(limits NATSLimits) {
	n.t.Helper()
	claims, err := jwt.DecodeAccountClaims(n.encode(n.claims(limits)))
	n.must(err)
	account, err := n.server.LookupAccount(n.id)
	n.must(err)
	n.server.UpdateAccountClaims(account, claims)
}

// Disconnect closes all connections; clients that come back present their credentials.
func (n *NATSAccount) Disconnect() {
	n.t.Helper()
	all, err := n.server.Connz(nil)
	n.must(err)
	for _, c := range all.Conns {
		n.must(n.server.DisconnectClientByID(c.Cid))
	}
}

func (n *NATSAccount) claims(l NATSLimits) *jwt.AccountClaims {
	bound := func(limit int64) int64 {
		if limit == 0 {
			return jwt.NoLimit
		}
		return limit
	}
	c := jwt.NewAccountClaims(n.id)
	c.Limits.Conn = bound(l.Connections)
	c.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: bound(l.Storage), Streams: bound(l.Streams), Consumer: bound(l.Consumers),
	}
	return c
}

func (n *NATSAccount) encode(c interface {
	Encode(kp nkeys.KeyPair) (string, error)
}) string {
	n.t.Helper()
	token, err := c.Encode(n.operator)
	n.must(err)
	return token
}

func (n *NATSAccount) key(k nkeys.KeyPair, err error) nkeys.KeyPair {
	n.t.Helper()
	n.must(err)
	return k
}

func (n *NATSAccount) public(k nkeys.KeyPair) string {
	n.t.Helper()
	id, err := k.PublicKey()
	n.must(err)
	return id
}

func (n *NATSAccount) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(fmt.Errorf("devtest: %w", err))
	}
}
