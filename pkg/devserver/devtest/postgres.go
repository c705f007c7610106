package devtest

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
	"sync/atomic"
	"syscall"
	"testing"
)

// Postgres returns the URL of a new, empty database. The first call of a test
// binary makes a cluster of its own and starts it, later ones share it. It is
// stopped and removed by Main, or when the test process ends, whichever comes
// first. It does not sync to disk: it is for tests of what is committed, not of
// what survives a crash of PostgreSQL.
func Postgres(t testing.TB) string {
	t.Helper()
	return shared.database(t)
}

// DurablePostgres is Postgres on a cluster that syncs each commit to disk, for
// measurements.
func DurablePostgres(t testing.TB) string {
	t.Helper()
	return durable.database(t)
}

// FullPostgres returns the URL of a database of a PostgreSQL of its own, which finds no room
// on the disk for a file that is to have more than some 20 MB: no rights are needed to fill
// it. It lives as long as the test.
func FullPostgres(t testing.TB) string {
	t.Helper()
	// Not a whole page: a write that is cut off is what PostgreSQL calls a full disk.
	c, err := prepareCluster(&cluster{fileLimit: 20<<20 + 512})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(c.stop)
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", c.addr())
}

func (o *clusterOnce) database(t testing.TB) string {
	t.Helper()
	c, err := o.get()
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	name := fmt.Sprintf("test_%d", c.databases.Add(1))
	if out, err := c.run("createdb", "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-U", "postgres", name); err != nil {
		t.Fatalf("devtest: create database %s: %v\n%s", name, err, out)
	}
	url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, name)
	t.Logf("devtest: PostgreSQL (%s) at %s", c.bin, url)
	return url
}

// Main runs the tests of a package, then stops and removes the PostgreSQL they
// started. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	shared.stop()
	durable.stop()
	return code
}

// shared and durable are the clusters of this test binary.
var shared, durable = clusterOnce{}, clusterOnce{sync: true}

type clusterOnce struct {
	sync    bool       // commits are synced to disk
	mu      sync.Mutex // guards the rest
	started bool
	cluster *cluster
	err     error
}

func (o *clusterOnce) get() (*cluster, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		o.started = true
		o.cluster, o.err = startCluster(o.sync)
	}
	return o.cluster, o.err
}

func (o *clusterOnce) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cluster != nil {
		o.cluster.stop()
	}
	o.started, o.cluster, o.err = false, nil, nil
}

type cluster struct {
	bin       string // directory of initdb and the others
	sync      bool
	settings  []string // beside the usual ones
	fileLimit int      // bytes that a file may have; 0 is no limit
	dir       string
	port      int
	host      string              // 127.0.0.1 if empty
	user      *syscall.Credential // nil: as ourselves
	databases atomic.Int64
	p         *process
}

func startCluster(sync bool, settings ...string) (*cluster, error) {
	return prepareCluster(&cluster{sync: sync, settings: settings})
}

// prepareCluster starts a new, empty one.
func prepareCluster(c *cluster) (*cluster, error) {
	return newCluster(c, func(c *cluster) error {
		out, err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
		if err != nil {
			return fmt.Errorf("initdb: %w\n%s", err, out)
		}
		return nil
	})
}

// newCluster starts what fill has put into the data directory.
func newCluster(c *cluster, fill func(*cluster) error) (*cluster, error) {
	var err error
	if c.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if c.user, err = postgresUser(); err != nil {
			return nil, err
		}
	}
	if c.dir, err = c.makeDir(); err != nil {
		return nil, err
	}
	if err = fill(c); err == nil {
		err = onFreePort(func(port int) error {
			c.port = port
			return c.start()
		})
	}
	if err != nil {
		_ = os.RemoveAll(c.dir)
		return nil, err
	}
	return c, nil
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) start() error {
	settings := []string{
		"listen_addresses=" + orLoopback(c.host), "unix_socket_directories=", "max_connections=200", "shared_buffers=32MB", "log_min_messages=warning",
	}
	if !c.sync {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	settings = append(settings, c.settings...)
	args := []string{"-D", c.data(), "-p", strconv.Itoa(c.port)}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	binary := filepath.Join(c.bin, "postgres")
	if c.fileLimit > 0 {
		const limited = `ulimit -f "$0" && exec "$@"` // in blocks of 512 bytes, or of 1024
		binary, args = "/bin/sh", append([]string{"-c", limited, strconv.Itoa(c.fileLimit / 512), binary}, args...)
	}
	p, err := start(spec{
		binary: binary, args: args, dir: c.dir, user: c.user,
		// Immediate shutdown: SIGKILL would leave its shared memory behind.
		signal: syscall.SIGQUIT,
		remove: c.dir,
	})
	if err != nil {
		return err
	}
	ready := func() error {
		_, err := c.run("pg_isready", "-h", orLoopback(c.host), "-p", strconv.Itoa(c.port), "-U", "postgres", "-d", "postgres", "-t", "1")
		return err
	}
	if err := p.until(ready); err != nil {
		p.stop()
		return err
	}
	c.p = p
	return nil
}

func (c *cluster) stop() {
	c.p.stop()
	_ = os.RemoveAll(c.dir)
}

func (c *cluster) run(tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(context.Background(), filepath.Join(c.bin, tool), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
	return cmd.CombinedOutput()
}

// makeDir makes a directory the server's user may reach and owns: a temporary
// directory below somebody's 0700 is none.
func (c *cluster) makeDir() (string, error) {
	parent := os.TempDir()
	if c.user != nil && !traversable(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "ledgerfeed-postgres-")
	if err != nil {
		return "", err
	}
	if c.user != nil {
		if err := os.Chown(dir, int(c.user.Uid), int(c.user.Gid)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func traversable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// postgresBin finds the server's binaries: Debian keeps them out of PATH, by
// version; the highest wins.
func postgresBin() (string, error) {
	best, version := "", -1
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	for _, f := range found {
		dir := filepath.Dir(f)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > version {
			best, version = dir, v
		}
	}
	if best != "" {
		return best, nil
	}
	if f, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(f), nil
	}
	return "", errors.New("PostgreSQL is not installed: run `apt-get install postgresql` (Debian) or `brew install postgresql@16` (macOS, with its bin in PATH)")
}

// postgresUser is whom to run as instead of root, which PostgreSQL refuses.
func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres: run `apt-get install postgresql`")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
