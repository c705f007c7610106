package devserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

// childEnv makes this test binary a process with one server in it: "redis FILE"
// or "nats DIR". It prints the URL and runs until its input ends or it is killed.
const childEnv = "DEVSERVER_CHILD"

func child(what string) int {
	name, place, _ := strings.Cut(what, " ")
	var url string
	switch name {
	case "redis":
		r, err := devserver.StartRedisCompacting(devserver.RedisOptions{Journal: place}, 32<<10)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		url = r.URL()
	case "nats":
		n, err := devserver.StartNATS(devserver.NATSOptions{Dir: place, SyncAlways: true})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		url = n.URL()
	}
	fmt.Println("url", url)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// victim is a child with a server, to be killed.
type victim struct {
	cmd *exec.Cmd
	url string
}

func startVictim(t *testing.T, what string) *victim {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	v := &victim{cmd: exec.Command(exe)}
	v.cmd.Env = append(os.Environ(), childEnv+"="+what)
	_, err = v.cmd.StdinPipe() // ends with this process
	require.NoError(t, err)
	out, err := v.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, v.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "url ")
	require.True(t, ok, line)
	v.url = url
	return v
}

func (v *victim) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, v.cmd.Process.Kill())
	v.cmd.Wait()
}

// Many clients write in every way there is and the process is killed in the
// middle of it, again and again. Afterwards every answered write is there, no
// transaction or script is half there, and the journal's order is the order the
// answers told.
func TestRedis_SurvivesKill(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "journal")
	const clients = 8
	var answered [clients]int64
	for range 5 {
		v := startVictim(t, "redis "+file)
		var total atomic.Int64
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				c := impatient(t, v.url)
				for writeSome(ctx, c, i, answered[i]+1) == nil {
					answered[i]++
					total.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return total.Load() > 3000 }, 20*time.Second, time.Millisecond)
		v.kill(t)
		wg.Wait()

		v = startVictim(t, "redis "+file)
		c := client(t, v.url)
		for i := range clients {
			kept, err := c.Get(ctx, fmt.Sprint("n", i)).Int64()
			require.NoError(t, err)
			require.GreaterOrEqual(t, kept, answered[i], "an answered write is gone")
			require.LessOrEqual(t, kept, answered[i]+1)
			h := c.HGetAll(ctx, fmt.Sprint("h", i)).Val()
			require.Equal(t, fmt.Sprint(kept), h["a"])
			require.Equal(t, h["a"], h["b"], "half a script")
			// The list is the order in which it happened.
			list := c.LRange(ctx, fmt.Sprint("l", i), 0, -1).Val()
			require.EqualValues(t, kept, len(list))
			for at, s := range list {
				require.Equal(t, fmt.Sprint(at+1), s)
			}
			answered[i] = kept
		}
		c.Close()
		v.kill(t)
	}
}

var pairScript = redis.NewScript(`
	redis.call('HSET', KEYS[1], 'a', ARGV[1])
	redis.call('SET', KEYS[2], ARGV[1])
	return redis.call('HSET', KEYS[1], 'b', ARGV[1])`)

// writeSome is one transaction: the number, a list, a hash by a script.
func writeSome(ctx context.Context, c *redis.Client, i int, n int64) error {
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, fmt.Sprint("n", i), n, 0)
		p.RPush(ctx, fmt.Sprint("l", i), n)
		pairScript.Eval(ctx, p, []string{fmt.Sprint("h", i), "lf:tmp:x"}, n)
		return nil
	})
	return err
}

// impatient is a client that never tries twice: a write it repeats would look
// like one that was not answered.
func impatient(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	o.MaxRetries, o.DialerRetries = -1, 1
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestNATS_SurvivesKill(t *testing.T) {
	dir := t.TempDir()
	v := startVictim(t, "nats "+dir)
	var acked atomic.Uint64
	js := jetStream(t, v.url)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			_, err := js.Publish(ctx, "s", []byte("x"))
			cancel()
			if err != nil {
				return
			}
			acked.Add(1)
		}
	}()
	require.Eventually(t, func() bool { return acked.Load() > 50 }, 20*time.Second, time.Millisecond)
	v.kill(t)
	<-done

	v = startVictim(t, "nats "+dir)
	s, err := jetStream(t, v.url).Stream(t.Context(), "S")
	require.NoError(t, err)
	require.GreaterOrEqual(t, s.CachedInfo().State.Msgs, acked.Load())
	v.kill(t)
}

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.NoReconnect())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}
