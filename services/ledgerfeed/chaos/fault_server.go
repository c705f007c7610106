package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// serverFaults are what servers lose, or have no room for.
func serverFaults() []fault {
	return []fault{
		{name: "broker-leader", group: "broker", least: 0, most: time.Second, weight: 2, effects: effects{repeats: true}, begin: changeLeader},
		{name: "broker-full", group: "processor", least: 2 * time.Second, most: 4 * time.Second, weight: 1, effects: effects{repeats: true}, begin: fillStream},
		{name: "broker-disk", group: "broker", least: 2 * time.Second, most: 5 * time.Second, weight: 1, effects: effects{repeats: true}, begin: fillDisk},
		{name: "broker-tail", group: "broker", kills: brokers, least: 2 * time.Second, most: 5 * time.Second, weight: 1, effects: effects{repeats: true, loses: true}, begin: loseTail},
		{name: "redis-old", group: "redis", kills: 1, least: 3 * time.Second, most: 8 * time.Second, weight: 1, redis: oneRedis, effects: effects{repeats: true, forgets: true, lapses: true}, begin: rollRedisBack},
		{name: "redis-empty", group: "redis", kills: 1, least: 0, most: time.Second, weight: 1, redis: oneRedis, effects: effects{repeats: true, forgets: true, lapses: true}, begin: emptyRedis},
	}
}

func changeLeader(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	name := choose(rng, []string{stream.EventStream, stream.EventStream, stream.RetryStream, stream.DeadStream})
	return nothing, name, r.plant.cluster.stepDown(ctx, name)
}

// fillStream keeps the processors from taking anything and fills the stream with
// signed events of a company that nobody connected.
func fillStream(ctx context.Context, r *run, rng *rand.Rand) (func(context.Context) error, string, error) {
	for _, one := range r.plant.services["processor"] {
		_ = one.pause() // fails for one that is down
	}
	end := func(context.Context) error {
		for _, one := range r.plant.services["processor"] {
			_ = one.resume() // as above
		}
		return nil
	}
	full := false
	for i := range 3 * eventBytes / fillBytes {
		body := filling(rng.Uint64(), i)
		status := r.plant.front.deliver(ctx, signed(body), body)
		if full = status == http.StatusServiceUnavailable; full {
			break
		}
	}
	return end, fmt.Sprintf("full: %t", full), nil
}

// stranger is a company that nobody connected.
const stranger = "93410000000000"

const fillBytes = 200 << 10

func filling(run uint64, i int) []byte {
	var b strings.Builder
	b.WriteByte('[')
	for n := 0; b.Len() < fillBytes; n++ {
		if n > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"fill-%016x-%d-%d","type":"qbo.invoice.updated.v1","time":"2026-11-23T10:20:29.000Z","intuitentityid":"%d","intuitaccountid":"%s","data":{}}`,
			run, i, n, n+1, stranger)
	}
	b.WriteByte(']')
	return []byte(b.String())
}

func signed(body []byte) http.Header {
	return http.Header{"Intuit-Signature": {webhook.Sign(body, verifierToken)}, "Content-Type": {"application/json"}}
}

// fillDisk leaves one broker no room on its disk.
func fillDisk(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cluster
	if c.small == "" {
		return nil, "", errNotPermitted
	}
	path := filepath.Join(c.small, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, "", err
	}
	_, err = io.Copy(f, zeros{}) // ends when the disk is full
	f.Close()
	if err == nil {
		return nil, "", errors.New("the disk does not fill")
	}
	member := c.members[brokers-1]
	return func(context.Context) error {
		err := os.Remove(path)
		// A broker that met the full disk may have turned JetStream off until it is
		// started again, as its operator would.
		member.kill()
		member.up()
		return err
	}, member.name, nil
}

// errNotPermitted says that this machine cannot make a fault.
var errNotPermitted = errors.New("not possible here")

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// loseTail takes the brokers back to what they held at its beginning, as a restore
// from a copy does.
func loseTail(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c, dir := r.plant.cluster, r.scratch()
	if err := c.copyStores(ctx, dir); err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error {
		for _, m := range c.members {
			m.kill()
		}
		err := c.restoreStores(ctx, dir)
		for _, m := range c.members {
			m.up()
		}
		return err
	}, "all", nil
}

// rollRedisBack takes Redis back to what it held at its beginning. Tokens that
// were replaced meanwhile are lost: a person connects those companies again.
func rollRedisBack(ctx context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c, dir := r.plant.cache.nodes[0], filepath.Join(r.scratch(), "redis")
	if err := c.copyFile(ctx, dir); err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error {
		r.cursors.forget()
		c.process.kill()
		err := c.rollBack(ctx, dir)
		c.process.up()
		r.cursors.forget()
		if err != nil {
			return err
		}
		return r.reconnect(ctx)
	}, "", nil
}

// emptyRedis leaves Redis nothing. A person connects all companies again.
func emptyRedis(_ context.Context, r *run, _ *rand.Rand) (func(context.Context) error, string, error) {
	c := r.plant.cache.nodes[0]
	c.process.kill()
	err := c.empty()
	return func(ctx context.Context) error {
		r.cursors.forget()
		c.process.up()
		return r.reconnect(ctx)
	}, "", err
}
