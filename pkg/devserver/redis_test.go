package devserver_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestRedis_ExpiresByTheClock(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, "").URL())
	require.NoError(t, c.Set(ctx, "k", "v", 150*time.Millisecond).Err())
	require.NoError(t, c.Get(ctx, "k").Err())
	require.Eventually(t, func() bool { return errors.Is(c.Get(ctx, "k").Err(), redis.Nil) }, 5*time.Second, 10*time.Millisecond)
}

func TestRedis_RunsScripts(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, "").URL())
	s := redis.NewScript(`redis.call('HSET', KEYS[1], 'a', ARGV[1]); return redis.call('HGET', KEYS[1], 'a')`)
	require.ErrorContains(t, s.EvalSha(ctx, c, []string{"k"}, "1").Err(), "NOSCRIPT")
	for _, v := range []string{"1", "2"} {
		got, err := s.Run(ctx, c, []string{"k"}, v).Text()
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	require.NoError(t, s.EvalSha(ctx, c, []string{"k"}, "3").Err())
}

func TestRedis_Pipelines(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, filepath.Join(t.TempDir(), "journal")).URL())
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range 10_000 {
			p.Incr(ctx, "n")
		}
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 10_000, cmds[9_999].(*redis.IntCmd).Val())
}

func TestRedis_Transactions(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, "").URL())
	cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", "1", 0)
		p.Eval(ctx, `return redis.call('INCR', KEYS[1])`, []string{"a"})
		p.Get(ctx, "a")
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "2", cmds[2].(*redis.StringCmd).Val())

	_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", "9", 0)
		p.Do(ctx, "nonsense")
		return nil
	})
	require.ErrorContains(t, err, "EXECABORT")
	require.Equal(t, "2", c.Get(ctx, "a").Val(), "all of it or nothing")
}

func TestRedis_Watch(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, "").URL())
	change := func(other func()) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			other()
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				return nil
			})
			return err
		}, "n")
	}
	require.NoError(t, change(func() {}))
	require.ErrorIs(t, change(func() { c.Set(ctx, "n", "7", 0) }), redis.TxFailedErr)
	require.NoError(t, change(func() {}), "the watch ends with the transaction")
	require.Equal(t, "8", c.Get(ctx, "n").Val())
}

// Each of these would hang the server, lose data in a replay or have no place in
// a snapshot: it says so instead.
func TestRedis_RefusesWhatItCannotKeep(t *testing.T) {
	ctx := context.Background()
	c := client(t, startRedis(t, "").URL())
	tests := []struct {
		name string
		args []any
		want string
	}{
		{"blocking", []any{"BLPOP", "k", "0"}, "'blpop' is not supported by the embedded Redis"},
		{"random", []any{"SPOP", "k"}, "'spop' is not supported"},
		{"a type of no snapshot", []any{"XADD", "k", "*", "a", "b"}, "'xadd' is not supported"},
		{"another database", []any{"SELECT", "1"}, "has one database"},
		{"copy to another database", []any{"COPY", "a", "b", "DB", "1"}, "'copy' is not supported"},
		{"an ephemeral key made lasting", []any{"RENAME", "lf:tmp:a", "a"}, "must not mix keys"},
		{"in a script", []any{"EVAL", "return redis.call('SPOP', KEYS[1])", "1", "k"}, "'spop' is not supported"},
		{"unknown", []any{"NONSENSE"}, "unknown command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorContains(t, c.Do(ctx, tt.args...).Err(), tt.want)
		})
	}
	require.NoError(t, c.Do(ctx, "SELECT", "0").Err())
	require.NoError(t, c.Set(ctx, "lf:tmp:a", "1", 0).Err())
	require.NoError(t, c.Rename(ctx, "lf:tmp:a", "lf:tmp:b").Err())
}

func TestRedis_AnswersTransactionsAsRedisDoes(t *testing.T) {
	u, err := url.Parse(startRedis(t, "").URL())
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, step := range []struct{ command, want string }{
		{"EXEC", "-ERR EXEC without MULTI"},
		{"DISCARD", "-ERR DISCARD without MULTI"},
		{"MULTI", "+OK"},
		{"MULTI", "-ERR MULTI calls can not be nested"},
		{"WATCH k", "-ERR WATCH inside MULTI is not allowed"},
		{"SET k v", "+QUEUED"},
		{"DISCARD", "+OK"},
		{"GET k", "$-1"},
		{"MULTI", "+OK"},
		{"BLPOP k 0", "-ERR 'blpop' is not supported by the embedded Redis"},
		{"EXEC", "-EXECABORT Transaction discarded because of previous errors."},
		{"PING", "+PONG"},
		{"QUIT", "+OK"},
	} {
		args := strings.Fields(step.command)
		var b strings.Builder
		b.WriteString("*" + itoa(len(args)) + "\r\n")
		for _, a := range args {
			b.WriteString("$" + itoa(len(a)) + "\r\n" + a + "\r\n")
		}
		_, err := conn.Write([]byte(b.String()))
		require.NoError(t, err)
		line, err := in.ReadString('\n')
		require.NoError(t, err, step.command)
		require.Equal(t, step.want+"\r\n", line, step.command)
	}
	_, err = in.ReadString('\n')
	require.Error(t, err, "QUIT ends the connection")
}

func TestRedis_EndsABrokenConnection(t *testing.T) {
	r := startRedis(t, "")
	u, err := url.Parse(r.URL())
	require.NoError(t, err)
	for _, garbage := range []string{"GET / HTTP/1.1\r\n", "*1\r\n:3\r\n", "*-5\r\n", "*2000000\r\n", "*1\r\n$999999999\r\n", "*1\r\n$1\r\nabc", strings.Repeat("*", 1<<17)} {
		conn, err := net.Dial("tcp", u.Host)
		require.NoError(t, err)
		_, err = conn.Write([]byte(garbage))
		require.NoError(t, err)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if line != "" {
			require.Contains(t, line, "-ERR Protocol error", "%.20q", garbage)
		}
		conn.Close()
	}
	require.NoError(t, client(t, r.URL()).Ping(context.Background()).Err(), "others are served")
}
