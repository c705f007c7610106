package devtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// PgBouncer starts PgBouncer in front of a database of Postgres and returns the URL of the
// database behind it. It gives each transaction another of its four connections
// (pool_mode=transaction).
func PgBouncer(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	binary, err := pgbouncerBin()
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	c := &cluster{}
	if os.Geteuid() == 0 {
		if c.user, err = postgresUser(); err != nil {
			t.Fatalf("devtest: %v", err)
		}
	}
	if c.dir, err = c.makeDir(); err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(c.dir) })
	var p *process
	err = onFreePort(func(port int) error {
		c.port = port
		settings := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
`, u.Port(), u.User.Username(), port)
		file := filepath.Join(c.dir, "pgbouncer.ini")
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			return err
		}
		if c.user != nil {
			if err := os.Chown(file, int(c.user.Uid), int(c.user.Gid)); err != nil {
				return err
			}
		}
		if p, err = start(spec{binary: binary, args: []string{file}, dir: c.dir, user: c.user, signal: syscall.SIGKILL, remove: c.dir}); err != nil {
			return err
		}
		return p.untilListening(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(p.stop)
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))
	t.Logf("devtest: PgBouncer (%s) at %s", binary, u)
	return u.String()
}

func pgbouncerBin() (string, error) {
	if f, err := exec.LookPath("pgbouncer"); err == nil {
		return f, nil
	}
	const debian = "/usr/sbin/pgbouncer" // not in everybody's PATH
	if _, err := os.Stat(debian); err == nil {
		return debian, nil
	}
	return "", errors.New("PgBouncer is not installed: run `apt-get install pgbouncer` (Debian) or `brew install pgbouncer` (macOS)")
}
