package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

var (
	// errReadOnly: a standby, a primary that was demoted, or a database whose sessions are
	// read-only by default. It passes with a failover, or once somebody ends it.
	errReadOnly = sink.Because("read-only", errors.New("the server is read-only: a standby, or default_transaction_read_only is on"))
	// errEncoding: documents would be stored as other characters.
	errEncoding = errors.New("the database is not in UTF8")
	// errPooled: the connection was made for a server that keeps prepared statements.
	errPooled = errors.New("a pooler is in front of the server, trying again without prepared statements")
)

// readOnlyTransaction is what a server says that was demoted under a connection.
const readOnlyTransaction = "25006"

// connector makes connections that a sink can use.
type connector struct {
	pool   atomic.Pointer[pgxpool.Pool]
	pooled atomic.Bool // a pooler was met
	url    atomic.Pointer[secret.String]
	known  atomic.Pointer[login]
	log    *zap.Logger
}

// login is who a connection is for.
type login struct{ user, password string }

// login reads user and password again for each connection: the URL may be another one by
// now, and so may the file of PGPASSFILE. Where there is no password for a moment, because
// that file is being replaced, the last one counts.
func (c *connector) login(conn *pgx.ConnConfig) {
	read, err := pgconn.ParseConfig(c.url.Load().Reveal())
	if err == nil && (read.Password != "" || c.known.Load() == nil) {
		c.known.Store(&login{read.User, read.Password})
	}
	if known := c.known.Load(); known != nil {
		conn.User, conn.Password = known.user, known.password
	}
	if err == nil && conn.TLSConfig != nil && read.TLSConfig != nil && sameServer(conn, read) {
		conn.TLSConfig = read.TLSConfig // its authorities and certificate may be others by now
	}
}

func sameServer(conn *pgx.ConnConfig, read *pgconn.Config) bool {
	return conn.Host == read.Host && conn.Port == read.Port
}

// SamePlace reports whether two connection strings differ in user and password at most.
func SamePlace(a, b secret.String) bool {
	if one, ok := placeOf(a); ok {
		other, ok := placeOf(b)
		return ok && one == other
	}
	x, xerr := parse(a)
	y, yerr := parse(b)
	if xerr != nil || yerr != nil || x.MaxConns != y.MaxConns {
		return false
	}
	return x.ConnConfig.Database == y.ConnConfig.Database && slices.Equal(hosts(x), hosts(y)) &&
		maps.Equal(x.ConnConfig.RuntimeParams, y.ConnConfig.RuntimeParams)
}

// placeOf is a URL without user and password; false for another kind of text.
func placeOf(text secret.String) (string, bool) {
	u, err := url.Parse(text.Reveal())
	if err != nil || u.Host == "" && u.RawQuery == "" {
		return "", false
	}
	query := u.Query()
	query.Del("user")
	query.Del("password")
	u.User, u.RawQuery = nil, query.Encode()
	return u.String(), true
}

// hosts are the servers that a configuration names, with TLS or without.
func hosts(config *pgxpool.Config) []string {
	c := config.ConnConfig
	all := []string{fmt.Sprint(c.Host, " ", c.Port, c.TLSConfig != nil)}
	for _, f := range c.Fallbacks {
		all = append(all, fmt.Sprint(f.Host, " ", f.Port, f.TLSConfig != nil))
	}
	return all
}

// parse reads a connection string, and adds what a sink needs and the string leaves open.
func parse(url secret.String) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url.Reveal())
	if err != nil {
		return nil, err // pgx leaves the password out
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if _, ok := c.RuntimeParams["application_name"]; !ok {
		c.RuntimeParams["application_name"] = "ledgerfeed"
	}
	// Documents are UTF-8, and text has the form that pgx reads and writes, whatever the role
	// or the database says. Poolers pass these parameters on, and few others.
	for name, value := range map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on", "datestyle": "ISO, MDY"} {
		c.RuntimeParams[name] = value
	}
	if c.ValidateConnect == nil && !sabotage.On(sabotage.FailoverStays) && !strings.Contains(url.Reveal(), "target_session_attrs") {
		c.ValidateConnect = writable
	}
	return config, nil
}

// writable refuses a server that takes no writes: after a failover the endpoint may
// still lead to the old primary.
func writable(ctx context.Context, conn *pgconn.PgConn) error {
	if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
		if _, failed := errors.AsType[*pgconn.PgError](err); failed || ctx.Err() != nil {
			return err
		}
		return errReadOnly
	}
	return nil
}

// newPool opens a pool whose connections are checked.
func (c *connector) newPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		c.login(conn)
		if c.pooled.Load() && needsSession(conn.DefaultQueryExecMode) {
			conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		return nil
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		registerDocuments(conn)
		err := check(ctx, conn)
		if errors.Is(err, errPooled) && !c.pooled.Swap(true) {
			c.log.Info("pooler detected, prepared statements are off (default_query_exec_mode=cache_describe)")
		}
		return err
	}
	closes := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code == readOnlyTransaction && !sabotage.On(sabotage.FailoverStays) {
			c.reset()
			return false
		}
		return closes == nil || closes(conn, err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	c.pool.Store(pool)
	return pool, nil
}

// reset leaves all connections: they lead to a server that takes no writes any more.
func (c *connector) reset() {
	if pool := c.pool.Load(); pool != nil {
		pool.Reset()
	}
}

// needsSession reports whether a mode relies on what the server keeps for a connection
// between two transactions. A pooler gives each transaction another one.
func needsSession(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeDescribeExec
}

// check looks at a new connection. A pooler answers with the process id of its own key
// for cancelling, not with that of the server behind it.
func check(ctx context.Context, conn *pgx.Conn) error {
	var process uint32
	var encoding string
	err := conn.QueryRow(ctx, "SELECT pg_backend_pid()::bigint, current_setting('server_encoding')", pgx.QueryExecModeSimpleProtocol).
		Scan(&process, &encoding)
	switch {
	case err != nil:
		return err
	case encoding != "UTF8":
		return fmt.Errorf("%w but in %s: create it with ENCODING 'UTF8'", errEncoding, encoding)
	case process != conn.PgConn().PID() && needsSession(conn.Config().DefaultQueryExecMode):
		return errPooled
	}
	return nil
}
