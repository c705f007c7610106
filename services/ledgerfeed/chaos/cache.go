package chaos

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// cache is a redis-server that syncs every write to its file.
type cache struct {
	process *process
	port    int
	dir     string
	store   *state.Store // ours, which nothing cuts
}

func newCache(ctx context.Context, dir, binary string, free ports, j *journal) (*cache, error) {
	port, err := free.next(ctx)
	if err != nil {
		return nil, err
	}
	c := &cache{port: port, dir: filepath.Join(dir, "redis")}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	c.process = newProcess(j, dir, "redis", "redis", func() spec {
		return spec{binary: binary, dir: c.dir, env: []string{"LC_ALL=C"}, args: []string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", c.dir,
			"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
		}}
	})
	return c, nil
}

func (c *cache) url(port int) string { return "redis://" + local(port) + "/0" }

// copyFile copies what a restart would read. The server runs on: its file is
// only ever appended to.
func (c *cache) copyFile(ctx context.Context, to string) error { return copyTree(ctx, c.dir, to) }

// rollBack makes a copy what the next start reads. The server is down.
func (c *cache) rollBack(ctx context.Context, from string) error {
	return replaceTree(ctx, from, c.dir)
}

// empty leaves nothing. The server is down.
func (c *cache) empty() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(c.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
