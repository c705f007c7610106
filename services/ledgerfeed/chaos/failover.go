package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// processes are the servers that were started: the standby only when a fault needs it.
func (d *database) processes() []*process {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*process
	for i, m := range d.members {
		if _, err := os.Stat(m.data); err == nil || i == d.primary {
			all = append(all, m.process)
		}
	}
	return all
}

// followWait bounds how long a standby may take to follow.
const followWait = 30 * time.Second

// follow makes the other server a standby: from then on a commit is answered once both
// have it.
func (d *database) follow(ctx context.Context) error {
	m := d.other()
	started := m.process.begun() > 0
	m.process.down(syscall.SIGINT, killWait) // and all of its children
	if err := os.RemoveAll(m.data); err != nil {
		return err
	}
	err := d.tool(ctx, "pg_basebackup", "-D", m.data, "-h", "127.0.0.1", "-p", strconv.Itoa(d.port()), "-U", "postgres",
		"-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err != nil {
		return err
	}
	if m.process.up(); !started {
		m.process.start()
	}
	if err := d.set(ctx, "ALTER SYSTEM SET synchronous_standby_names = '*'"); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	err = until(within, func(ctx context.Context) error {
		var n int
		err := d.pool.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("the standby does not follow yet")
		}
		return err
	})
	if err != nil { // or no commit would be answered any more
		return errors.Join(err, d.set(context.WithoutCancel(ctx), "ALTER SYSTEM RESET synchronous_standby_names"))
	}
	return nil
}

// failover kills the primary and promotes its standby. The old primary comes back and
// answers reads only, as it does where nobody has told it of the new one.
func (d *database) failover(ctx context.Context) error {
	old, next := d.now(), d.other()
	old.process.kill()
	signal := filepath.Join(old.data, "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	if d.owner != nil {
		if err := os.Chown(signal, int(d.owner.Uid), int(d.owner.Gid)); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.primary = 1 - d.primary
	d.mu.Unlock()
	d.pool.Reset()
	err := d.set(ctx, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_promote()")
	old.process.up()
	if err != nil {
		return fmt.Errorf("promote %s: %w", next.process.name, err)
	}
	return nil
}

// set runs statements at the server that takes writes, and has it read its settings again.
func (d *database) set(ctx context.Context, statements ...string) error {
	return until(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, d.url(d.port()))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }() // the settings are what counts
		for _, s := range append(statements, "SELECT pg_reload_conf()") {
			if _, err := conn.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// setReadOnly makes all sessions read-only, open ones too, or ends that.
func (d *database) setReadOnly(ctx context.Context, on bool) error {
	if on {
		return d.set(ctx, "ALTER SYSTEM SET default_transaction_read_only = on")
	}
	return d.set(ctx, "ALTER SYSTEM RESET default_transaction_read_only")
}
