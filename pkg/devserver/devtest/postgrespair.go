package devtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// PostgresPair is a primary and a standby that follows it: a commit is answered once both
// have it.
type PostgresPair struct {
	t                testing.TB
	primary, standby *cluster
}

// StartPostgresPair starts one that lives as long as the test.
func StartPostgresPair(t testing.TB) *PostgresPair {
	t.Helper()
	p := &PostgresPair{t: t}
	var err error
	p.primary, err = startCluster(false, "synchronous_commit=remote_apply", "hot_standby=on")
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(func() { p.primary.stop() })
	p.standby, err = newCluster(&cluster{settings: p.primary.settings}, func(c *cluster) error {
		out, err := c.run("pg_basebackup", "-D", c.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(p.primary.port), "-U", "postgres",
			"-R", "-X", "stream", "-c", "fast", "--no-sync")
		if err != nil {
			return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	t.Cleanup(func() { p.standby.stop() })
	p.sql(p.primary, "alter system set synchronous_standby_names = '*'")
	p.sql(p.primary, "select pg_reload_conf()")
	// What is committed before could be answered without the standby.
	const synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'"
	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for p.sql(p.primary, synchronous) != "1" {
		if lifecycle.Sleep(within, 50*time.Millisecond) != nil {
			t.Fatal("devtest: the standby did not become synchronous within a minute")
		}
	}
	t.Logf("devtest: PostgreSQL at %s, its standby at %s", p.Primary(), p.Standby())
	return p
}

// Primary is the address of the server that takes writes before Failover.
func (p *PostgresPair) Primary() string { return p.primary.addr() }

// Standby is the address of the server that takes writes after Failover.
func (p *PostgresPair) Standby() string { return p.standby.addr() }

// Failover restarts the primary as a standby, which answers reads only, and makes the
// standby the primary.
func (p *PostgresPair) Failover() {
	p.t.Helper()
	p.primary.p.stop()
	signal := filepath.Join(p.primary.data(), "standby.signal")
	err := os.WriteFile(signal, nil, 0o600)
	if u := p.primary.user; err == nil && u != nil {
		err = os.Chown(signal, int(u.Uid), int(u.Gid))
	}
	if err == nil {
		err = p.primary.start()
	}
	if err != nil {
		p.t.Fatalf("devtest: restart the primary as a standby: %v", err)
	}
	p.sql(p.standby, "alter system set synchronous_standby_names = ''")
	p.sql(p.standby, "select pg_reload_conf()")
	// A query would hold up the replay that the promotion waits for.
	if out, err := p.standby.run("pg_ctl", "promote", "-D", p.standby.data(), "-w"); err != nil {
		p.t.Fatalf("devtest: promote the standby: %v\n%s", err, out)
	}
}

func (p *PostgresPair) sql(c *cluster, sql string) string {
	p.t.Helper()
	out, err := c.run("psql", "-X", "-t", "-A", "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-U", "postgres", "-c", sql, "postgres")
	if err != nil {
		p.t.Fatalf("devtest: %s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *cluster) addr() string { return net.JoinHostPort(orLoopback(c.host), strconv.Itoa(c.port)) }
