package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// database is a PostgreSQL that syncs every commit, and the standby that takes over from
// it in some runs.
type database struct {
	binaries string // where initdb and its like are
	home     string
	owner    *syscall.Credential
	pool     *pgxpool.Pool
	moving   sync.Mutex // held while the standby takes over

	mu      sync.Mutex // guards the rest
	members [2]*member
	primary int // of members
}

// member is one server of a database.
type member struct {
	process *process
	port    int
	data    string
}

func newDatabase(ctx context.Context, dir, initdb string, free ports, j *journal) (*database, error) {
	d := &database{binaries: filepath.Dir(initdb), home: filepath.Join(dir, "postgres")}
	if err := os.MkdirAll(d.home, 0o755); err != nil {
		return nil, err
	}
	var err error
	if d.owner, err = notRoot(d.home); err != nil {
		return nil, err
	}
	for i, name := range []string{"postgres", "postgres-2"} {
		port, err := free.next(ctx)
		if err != nil {
			return nil, err
		}
		d.members[i] = d.newMember(dir, name, port, j)
	}
	if err := d.tool(ctx, "initdb", "-D", d.members[0].data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(d.url(d.port()) + "&connect_timeout=3")
	if err != nil {
		return nil, err
	}
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		c.Port = uint16(d.port())
		return nil
	}
	d.pool, err = pgxpool.NewWithConfig(ctx, config)
	return d, err
}

func (d *database) newMember(dir, name string, port int, j *journal) *member {
	m := &member{port: port, data: filepath.Join(d.home, name)}
	args := []string{"-D", m.data, "-p", strconv.Itoa(port)}
	for _, s := range []string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "shared_buffers=64MB", "log_min_messages=warning"} {
		args = append(args, "-c", s)
	}
	m.process = newProcess(j, dir, "postgres", name, func() spec {
		// What a killed server leaves behind would keep the next one from starting
		// only if its number belonged to a process again.
		return spec{binary: filepath.Join(d.binaries, "postgres"), args: args, env: []string{"LC_ALL=C"}, dir: d.home, user: d.owner}
	})
	return m
}

// tool runs one of PostgreSQL's programs as who owns the servers.
func (d *database) tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(d.binaries, name), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = d.home, []string{"LC_ALL=C", "PATH=" + d.binaries + ":/usr/bin:/bin"}, &syscall.SysProcAttr{Credential: d.owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// now is the server that takes writes, and other the one that does not.
func (d *database) now() *member {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.members[d.primary]
}

func (d *database) other() *member {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.members[1-d.primary]
}

// port is that of the server that takes writes.
func (d *database) port() int { return d.now().port }

func (d *database) url(port int) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", local(port))
}

// notRoot is whom to run as instead of root, which PostgreSQL refuses; the
// directory is theirs then.
func notRoot(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres: run `apt-get install postgresql`")
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, uid, gid)
}

// ready waits until it answers.
func (d *database) ready(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error { return d.pool.Ping(ctx) })
}

// guard has the database note each row whose version goes back, behind the back
// of the sink. The sink's table must be there.
const guard = `
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE IF NOT EXISTS chaos.backward (at timestamptz DEFAULT now(), realm text, entity text, id text, had bigint, got bigint);
CREATE OR REPLACE FUNCTION chaos.watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.version < OLD.version AND NOT (OLD.deleted AND NEW.learned = 'restored') THEN
    INSERT INTO chaos.backward (realm, entity, id, had, got) VALUES (OLD.realm, OLD.entity, OLD.id, OLD.version, NEW.version);
  END IF;
  RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS chaos_watch ON ledgerfeed.entity;
CREATE TRIGGER chaos_watch BEFORE UPDATE ON ledgerfeed.entity FOR EACH ROW EXECUTE FUNCTION chaos.watch();`

func (d *database) watch(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, guard)
		return err
	})
}

// rows are all that the sink holds.
func (d *database) rows(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	return d.query(ctx, "SELECT realm, entity, id, version, deleted, learned, coalesce(content_hash, '') FROM ledgerfeed.entity")
}

// some are those of the named records.
func (d *database) some(ctx context.Context, refs []sink.Ref) (map[sink.Ref]sink.Row, error) {
	var realms, entities, ids []string
	for _, r := range refs {
		realms, entities, ids = append(realms, r.Realm), append(entities, r.Entity), append(ids, r.ID)
	}
	return d.query(ctx, `SELECT e.realm, e.entity, e.id, e.version, e.deleted, e.learned, coalesce(e.content_hash, '') FROM ledgerfeed.entity e
		JOIN unnest($1::text[], $2::text[], $3::text[]) AS want (realm, entity, id) USING (realm, entity, id)`, realms, entities, ids)
}

func (d *database) query(ctx context.Context, statement string, args ...any) (map[sink.Ref]sink.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	rows, err := d.pool.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	held := map[sink.Ref]sink.Row{}
	var ref sink.Ref
	var row sink.Row
	_, err = pgx.ForEachRow(rows, []any{&ref.Realm, &ref.Entity, &ref.ID, &row.Version, &row.Deleted, &row.Learned, &row.ContentHash}, func() error {
		held[ref] = row
		return nil
	})
	return held, err
}

// tombstones are the records that the sink holds as deleted.
func (d *database) tombstones(ctx context.Context) (map[sink.Ref]sink.Row, error) {
	return d.query(ctx, "SELECT realm, entity, id, version, deleted, learned, coalesce(content_hash, '') FROM ledgerfeed.entity WHERE deleted")
}

// mislabelled are records whose document is another than its hash says.
func (d *database) mislabelled(ctx context.Context) (wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	rows, err := d.pool.Query(ctx, "SELECT realm, entity, id, coalesce(content_hash, ''), document::text FROM ledgerfeed.entity WHERE document IS NOT NULL")
	if err != nil {
		return nil, err
	}
	var ref sink.Ref
	var hash, document string
	_, err = pgx.ForEachRow(rows, []any{&ref.Realm, &ref.Entity, &ref.ID, &hash, &document}, func() error {
		if hash != qbo.ContentHash([]byte(document)) {
			wrong = append(wrong, fmt.Sprintf("in the table realm %s %s %s has another document than its hash says", ref.Realm, ref.Entity, ref.ID))
		}
		return nil
	})
	return wrong, err
}

// lock keeps writes from the table until it is released.
func (d *database) lock(ctx context.Context) (release func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tx, err := d.pool.Begin(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE ledgerfeed.entity IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return nil, errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return func(ctx context.Context) error {
		_ = tx.Rollback(ctx) // fails if the server has ended meanwhile: then nothing is locked
		return nil
	}, nil
}

// doubles counts the changes that the change log holds twice in a row, and backward the
// rows that went back. Two documents of one version may take turns while replicas of the
// API are late.
func (d *database) doubles(ctx context.Context) (doubles, backward int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = d.pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT key = lag(key) OVER (PARTITION BY realm, entity, id ORDER BY seq) AS again, learned FROM ledgerfeed.change) AS d
			WHERE again AND learned <> 'replay'),
		(SELECT count(*) FROM chaos.backward)`).Scan(&doubles, &backward)
	return doubles, backward, err
}

// until calls f until it succeeds or ctx ends.
func until(ctx context.Context, f func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error // but for that of the end of ctx
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(try)
		cancel()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
