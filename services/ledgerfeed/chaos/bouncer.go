package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
)

// bouncer is a PgBouncer in front of the database: it gives each transaction another of
// its connections.
type bouncer struct {
	process *process
	port    int
	// behind leads to the server that takes writes.
	behind *faultproxy.Proxy
}

func newBouncer(ctx context.Context, dir, binary string, d *database, free ports, j *journal) (*bouncer, error) {
	port, err := free.next(ctx)
	if err != nil {
		return nil, err
	}
	b := &bouncer{port: port}
	if b.behind, err = faultproxy.Start(ctx, local(d.port()), nil); err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "pgbouncer")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	_, behind, err := net.SplitHostPort(b.behind.Addr())
	if err != nil {
		return nil, err
	}
	config := filepath.Join(home, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
`, behind, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if d.owner != nil { // it does not run as root either
		for _, path := range []string{home, config} {
			if err := os.Chown(path, int(d.owner.Uid), int(d.owner.Gid)); err != nil {
				return nil, err
			}
		}
	}
	b.process = newProcess(j, dir, "pgbouncer", "pgbouncer", func() spec {
		return spec{binary: binary, args: []string{config}, env: []string{"LC_ALL=C"}, dir: home, user: d.owner}
	})
	return b, nil
}

// tableAddr is where the table is written to.
func (p *plant) tableAddr() string {
	if p.bouncer != nil {
		return local(p.bouncer.port)
	}
	return local(p.database.port())
}

// redirectTable leads the links of the table to the server that takes writes now. A
// pooler keeps its connections to the old one: who moves its endpoint ends them.
func (p *plant) redirectTable() {
	if p.bouncer != nil {
		p.bouncer.behind.Redirect(local(p.database.port()))
		p.bouncer.behind.Drop()
		return
	}
	for _, l := range p.links["postgres"] {
		l.Redirect(local(p.database.port()))
	}
}
