package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/faultproxy"
)

const brokers = 3

// cluster is three nats-servers that sync every message.
type cluster struct {
	dir     string
	members []*process
	clients []int // ports
	monitor []int
	stores  []string
	// routes are the links between them, both ways, by member.
	routes [brokers][]*faultproxy.Proxy
	// small is the store that lies on a file system of its own, which can be
	// filled; "" where mounting is not permitted.
	small string
	// edited has the settings of streams that were changed by hand, as they were:
	// "STREAM setting" to the value.
	edited sync.Map
}

// diskSize is that of the small file system: room for what a server keeps, and
// soon full.
const diskSize = "size=512m"

func newCluster(ctx context.Context, dir, binary string, free ports, j *journal) (*cluster, error) {
	c := &cluster{dir: dir}
	var own []int // ports for the others
	for range brokers {
		for _, list := range []*[]int{&c.clients, &c.monitor, &own} {
			port, err := free.next(ctx)
			if err != nil {
				return nil, err
			}
			*list = append(*list, port)
		}
	}
	for i := range brokers {
		name := fmt.Sprintf("broker-%d", i+1)
		store := filepath.Join(dir, name)
		if err := os.MkdirAll(store, 0o755); err != nil {
			return nil, err
		}
		if i == brokers-1 && exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", diskSize, "tmpfs", store).Run() == nil {
			c.small = store
		}
		c.stores = append(c.stores, store)
		config := filepath.Join(dir, name+".conf")
		peers, err := c.link(ctx, i, own)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf(`server_name: %s
listen: "%s"
http: "%s"
jetstream { store_dir: "%s", sync_interval: always, max_file_store: 4GB, max_memory_store: 64MB }
cluster { name: chaos, listen: "%s", no_advertise: true, routes: ["%s"] }
`, name, local(c.clients[i]), local(c.monitor[i]), store, local(own[i]), strings.Join(peers, `", "`))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		c.members = append(c.members, newProcess(j, dir, "broker", name, func() spec {
			return spec{binary: binary, args: []string{"-c", config}, env: []string{"PATH=" + filepath.Dir(binary)}, dir: dir}
		}))
	}
	return c, nil
}

// link makes the links on which a member reaches the others, and returns their
// addresses.
func (c *cluster) link(ctx context.Context, from int, ports []int) (peers []string, err error) {
	for to, port := range ports {
		if to == from {
			continue
		}
		link, err := faultproxy.Start(ctx, local(port), nil)
		if err != nil {
			return nil, err
		}
		c.routes[from], c.routes[to] = append(c.routes[from], link), append(c.routes[to], link)
		peers = append(peers, "nats://"+link.Addr())
	}
	return peers, nil
}

// heal mends the links between the members.
func (c *cluster) heal() {
	for _, links := range c.routes {
		for _, l := range links {
			l.Heal()
		}
	}
}

// close ends the links between the members, which have ended.
func (c *cluster) close() {
	c.unmount()
	for _, links := range c.routes {
		for _, l := range links {
			l.Close()
		}
	}
}

func (c *cluster) url() string {
	var urls []string
	for _, port := range c.clients {
		urls = append(urls, "nats://"+local(port))
	}
	return strings.Join(urls, ",")
}

func (c *cluster) monitorURL() string {
	var urls []string
	for _, port := range c.monitor {
		urls = append(urls, "http://"+local(port))
	}
	return strings.Join(urls, ",")
}

// stepDown asks the leader of a stream to give up its office, by the plain
// protocol: only package stream knows the client.
func (c *cluster) stepDown(ctx context.Context, stream string) error {
	for _, port := range c.clients {
		if err := publish(ctx, local(port), "$JS.API.STREAM.LEADER.STEPDOWN."+stream, ""); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no broker takes the request that the leader of %s steps down", stream)
}

// send publishes a message by the plain protocol, to whichever server takes it.
func (c *cluster) send(ctx context.Context, subject, payload string) error {
	var errs []error
	for _, port := range c.clients {
		err := publish(ctx, local(port), subject, payload)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// purge takes what has that subject off a stream, and returns when that is done.
func (c *cluster) purge(ctx context.Context, stream, subject string) error {
	var errs []error
	for _, port := range c.clients {
		answer, err := request(ctx, local(port), "$JS.API.STREAM.PURGE."+stream, fmt.Sprintf(`{"filter":%q}`, subject))
		switch {
		case err == nil && strings.Contains(answer, `"success":true`):
			return nil
		case err == nil:
			err = fmt.Errorf("purge %s: %s", stream, answer)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// request publishes by the plain protocol and returns the answer.
func request(ctx context.Context, addr, subject, payload string) (string, error) {
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	inbox := fmt.Sprintf("_INBOX.chaos.%d", time.Now().UnixNano())
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":false}\r\nSUB %s 1\r\nPUB %s %s %d\r\n%s\r\n", inbox, subject, inbox, len(payload), payload)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "MSG ") {
			lines.Scan()
			return lines.Text(), nil
		}
	}
	return "", fmt.Errorf("%s does not answer", subject)
}

func publish(ctx context.Context, addr, subject, payload string) error {
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nPUB %s _INBOX.chaos %d\r\n%s\r\nPING\r\n", subject, len(payload), payload)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "PONG") {
			return nil
		}
	}
	return lines.Err()
}

// copyStores copies what all servers keep, as it was at one moment: they stand
// still meanwhile.
func (c *cluster) copyStores(ctx context.Context, to string) error {
	for _, m := range c.members {
		if err := m.pause(); err != nil {
			return err
		}
	}
	defer func() {
		for _, m := range c.members {
			_ = m.resume() // fails for one that is gone
		}
	}()
	for _, store := range c.stores {
		if err := copyTree(ctx, store, filepath.Join(to, filepath.Base(store))); err != nil {
			return err
		}
	}
	return nil
}

// restoreStores puts a copy back in place. The servers are down.
func (c *cluster) restoreStores(ctx context.Context, from string) error {
	for _, store := range c.stores {
		if err := replaceTree(ctx, filepath.Join(from, filepath.Base(store)), store); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) unmount() {
	if c.small != "" {
		_ = exec.CommandContext(context.Background(), "umount", c.small).Run()
	}
}

// copyTree makes to, which must not be there, a copy of from.
func copyTree(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}

// replaceTree makes the content of to that of from; to itself, which may be a
// mount, stays.
func replaceTree(ctx context.Context, from, to string) error {
	entries, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s back: %w: %s", from, err, out)
	}
	return nil
}
