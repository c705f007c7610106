package devserver_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Whatever is done, and however often the server restarts, the data is the same
// after a restart as before it.
func TestRedis_JournalKeepsWhatWasDone(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		journal := filepath.Join(dir, itoa(run))
		for range rapid.IntRange(1, 3).Draw(rt, "restarts") {
			r, err := devserver.StartRedisCompacting(devserver.RedisOptions{Journal: journal}, rapid.SampledFrom([]int64{1, 1000, 1 << 30}).Draw(rt, "compact at"))
			require.NoError(rt, err)
			c := client(t, r.URL())
			for range rapid.IntRange(0, 60).Draw(rt, "commands") {
				randomCommand(ctx, rt, c)
			}
			want := dump(t, c)
			c.Close()
			r.Close()
			r.Close()

			r, err = devserver.StartRedis(devserver.RedisOptions{Journal: journal})
			require.NoError(rt, err)
			c = client(t, r.URL())
			got := dump(t, c)
			n, err := c.Exists(ctx, "lf:tmp:a", "lf:tmp:b").Result()
			c.Close()
			r.Close()
			require.NoError(rt, err)
			require.Zero(rt, n, "ephemeral keys are gone")
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatal(diff)
			}
		}
	})
}

// Errors are part of it: most of these meet a key of another type.
func randomCommand(ctx context.Context, rt *rapid.T, c *redis.Client) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "lf:{1}:x", "lf:tmp:a", "lf:tmp:b"})
	text := rapid.SampledFrom([]string{"", "x", "y", "z", "\x00\r\n$1", strings.Repeat("long", 300)})
	k, v, w := key.Draw(rt, "key"), text.Draw(rt, "v"), text.Draw(rt, "w")
	n := rapid.IntRange(-3, 100_000).Draw(rt, "n")
	score := rapid.SampledFrom([]float64{0, -1.5, 0.1, 1763631000000003, math.Inf(1), 1e300}).Draw(rt, "score")
	switch rapid.IntRange(0, 24).Draw(rt, "command") {
	case 0, 1:
		c.Set(ctx, k, v, 0)
	case 2:
		c.Set(ctx, k, v, time.Hour)
	case 3:
		c.Del(ctx, k, key.Draw(rt, "other"))
	case 4, 5:
		c.HSet(ctx, k, v, w)
	case 6:
		c.HDel(ctx, k, v)
	case 7, 8:
		c.ZAdd(ctx, k, redis.Z{Score: score, Member: v})
	case 9:
		c.ZAddArgs(ctx, k, redis.ZAddArgs{GT: true, Ch: true, Members: []redis.Z{{Score: score, Member: v}}})
	case 10:
		c.ZRem(ctx, k, v)
	case 11:
		c.SAdd(ctx, k, v, w)
	case 12:
		c.RPush(ctx, k, v, w)
	case 13:
		c.LTrim(ctx, k, 0, 3)
	case 14:
		c.IncrBy(ctx, k, int64(n))
	case 15:
		c.PExpire(ctx, k, time.Hour)
	case 16:
		c.Persist(ctx, k)
	case 17:
		c.HIncrBy(ctx, k, "n", int64(n))
	case 18:
		c.MSet(ctx, k, v, key.Draw(rt, "other"), w)
	case 19:
		c.Rename(ctx, k, key.Draw(rt, "other"))
	case 20, 21:
		// A script that decides by an ephemeral key what to do with another.
		c.Eval(ctx, `
			if redis.call('EXISTS', 'lf:tmp:a') == 1 then
				redis.pcall('HSET', KEYS[1], ARGV[1], 'held')
				redis.call('SET', 'lf:tmp:b', '1')
			else
				redis.pcall('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
				redis.call('SET', 'lf:tmp:a', '1')
			end
			return redis.call('LPUSH', KEYS[2], ARGV[1])`, []string{k, key.Draw(rt, "other")}, v, n)
	case 22:
		c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "a", v, 0)
			p.Eval(ctx, `return redis.call('APPEND', KEYS[1], ARGV[1])`, []string{"a"}, w)
			p.HSet(ctx, k, v, w)
			return nil
		})
	case 23:
		c.SetNX(ctx, k, v, 0)
	case 24:
		if n < 1000 {
			c.FlushDB(ctx)
		}
	}
}

// A key expires when it would have, not as long after the restart.
func TestRedis_JournalKeepsTheTimeOfExpiry(t *testing.T) {
	ctx := context.Background()
	journal := filepath.Join(t.TempDir(), "journal")
	r := startRedis(t, journal)
	c := client(t, r.URL())
	require.NoError(t, c.Set(ctx, "soon", "v", 400*time.Millisecond).Err())
	require.NoError(t, c.Set(ctx, "late", "v", time.Hour).Err())
	set := time.Now()
	r.Close()
	require.Eventually(t, func() bool { return time.Since(set) > 450*time.Millisecond }, 5*time.Second, 10*time.Millisecond)

	c = client(t, startRedis(t, journal).URL())
	require.ErrorIs(t, c.Get(ctx, "soon").Err(), redis.Nil)
	ttl, err := c.PTTL(ctx, "late").Result()
	require.NoError(t, err)
	require.Less(t, ttl, time.Hour-400*time.Millisecond)
	require.Greater(t, ttl, time.Hour-time.Minute)
}

func TestRedis_JournalLeavesEphemeralKeysOut(t *testing.T) {
	ctx := context.Background()
	journal := filepath.Join(t.TempDir(), "journal")
	c := client(t, startRedis(t, journal).URL())
	require.NoError(t, c.Set(ctx, "lf:tmp:lease", "secret-of-a-lease", time.Minute).Err())
	require.NoError(t, c.Eval(ctx, `return redis.call('SET', KEYS[1], ARGV[1])`, []string{"lf:tmp:limit"}, "secret-of-a-limit").Err())
	require.NoError(t, c.Set(ctx, "lf:mark", "kept", 0).Err())
	b, err := os.ReadFile(journal)
	require.NoError(t, err)
	require.NotContains(t, string(b), "secret-of-a")
	require.Contains(t, string(b), "kept")
}

func TestRedis_JournalIsRewrittenWhenItGrows(t *testing.T) {
	ctx := context.Background()
	journal := filepath.Join(t.TempDir(), "journal")
	r, err := devserver.StartRedisCompacting(devserver.RedisOptions{Journal: journal}, 64<<10)
	require.NoError(t, err)
	defer r.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		c := client(t, r.URL())
		wg.Go(func() {
			for n := range 500 {
				if err := c.Set(ctx, "k"+itoa(i), strings.Repeat(itoa(n%10), 500), 0).Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := dump(t, client(t, r.URL()))
	r.Close()
	require.NoError(t, r.Err())
	info, err := os.Stat(journal)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(256<<10), "2 MB were written")
	require.Empty(t, cmp.Diff(want, dump(t, client(t, startRedis(t, journal).URL()))))
}

// content is a journal with some operations in it, and its bytes.
func content(t *testing.T) (file string, b []byte) {
	t.Helper()
	ctx := context.Background()
	file = filepath.Join(t.TempDir(), "journal")
	r := startRedis(t, file)
	c := client(t, r.URL())
	for i := range 5 {
		require.NoError(t, c.Set(ctx, "k"+itoa(i), strings.Repeat("v", 50), 0).Err())
	}
	r.Close()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return file, b
}

// A crash may cut the file at any byte: what was complete is there, in order.
func TestRedis_JournalTornAnywhere(t *testing.T) {
	ctx := context.Background()
	file, whole := content(t)
	first := strings.Index(string(whole), "\n") + 1
	last := -1
	for size := first; size <= len(whole); size++ {
		require.NoError(t, os.WriteFile(file, whole[:size], 0o600))
		r, err := devserver.StartRedis(devserver.RedisOptions{Journal: file})
		require.NoError(t, err, "cut at %d of %d", size, len(whole))
		c := client(t, r.URL())
		n := 0
		for ; c.Exists(ctx, "k"+itoa(n)).Val() == 1; n++ {
		}
		require.EqualValues(t, n, c.DBSize(ctx).Val())
		require.GreaterOrEqual(t, n, last)
		last = n
		c.Close()
		r.Close()
	}
	require.Equal(t, 5, last)
}

func TestRedis_JournalWithAnUnwrittenTail(t *testing.T) {
	file, whole := content(t)
	require.NoError(t, os.WriteFile(file, append(whole, make([]byte, 4096)...), 0o600))
	require.EqualValues(t, 5, client(t, startRedis(t, file).URL()).DBSize(context.Background()).Val())
}

// A flipped bit anywhere before the last frame must not pass for a torn tail:
// everything behind it would be dropped without a word.
func TestRedis_JournalDamagedInTheMiddle(t *testing.T) {
	file, whole := content(t)
	first := strings.Index(string(whole), "\n") + 1
	last := strings.LastIndex(string(whole), "k4") - 20
	for at := first; at < last; at++ {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x40
		require.NoError(t, os.WriteFile(file, damaged, 0o600))
		_, err := devserver.StartRedis(devserver.RedisOptions{Journal: file})
		require.ErrorContains(t, err, "journal "+file+": is damaged at byte ", "byte %d of %d", at, len(whole))
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, damaged, b, "the file is left as it is")
	}
}

func TestRedis_JournalOfAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	for content, want := range map[string]string{
		"ledgerfeed redis journal 2\n": "has format version 2, this program writes 1",
		"REDIS0011":                    "not a journal of the embedded Redis",
		"*1\r\n$4\r\nPING\r\n":         "not a journal of the embedded Redis",
	} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := devserver.StartRedis(devserver.RedisOptions{Journal: file})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, file)
	}
}

func TestRedis_JournalInUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	r := startRedis(t, file)
	_, err := devserver.StartRedis(devserver.RedisOptions{Journal: file})
	require.ErrorContains(t, err, "journal "+file+": in use by another process")
	r.Close()
	startRedis(t, file)
}

// No answer before the sync: neither to who wrote nor to who reads it.
func TestRedis_JournalIsSyncedBeforeTheAnswer(t *testing.T) {
	ctx := context.Background()
	r := startRedis(t, filepath.Join(t.TempDir(), "journal"))
	c := impatient(t, r.URL())
	require.NoError(t, c.Set(ctx, "k", "old", 0).Err())
	release := make(chan struct{})
	r.HoldSync(release)

	answers := make(chan string, 2)
	go func() { answers <- c.Set(ctx, "k", "new", 0).Val() }()
	reader := impatient(t, r.URL())
	require.Eventually(t, func() bool { return r.Peek("k") == "new" }, 5*time.Second, time.Millisecond)
	go func() { answers <- reader.Get(ctx, "k").Val() }()
	select {
	case a := <-answers:
		t.Fatalf("answered %q before the sync", a)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	require.ElementsMatch(t, []string{"OK", "new"}, []string{<-answers, <-answers})
}

// A write that did not reach the disk is not answered, nor is anything after it.
func TestRedis_JournalThatCannotBeWritten(t *testing.T) {
	ctx := context.Background()
	r := startRedis(t, filepath.Join(t.TempDir(), "journal"))
	c := impatient(t, r.URL())
	require.NoError(t, c.Set(ctx, "k", "1", 0).Err())
	require.NoError(t, r.Err())
	r.BreakJournal()
	require.Error(t, c.Set(ctx, "k", "2", 0).Err())
	require.Error(t, c.Get(ctx, "k").Err())
	require.ErrorContains(t, r.Err(), "journal")
}

func BenchmarkRedis(b *testing.B) {
	script := redis.NewScript(`if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end return 1`)
	for _, journaled := range []bool{false, true} {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("journal=%t/pipeline=%d", journaled, batch), func(b *testing.B) {
				file := ""
				if journaled {
					file = filepath.Join(b.TempDir(), "journal")
				}
				ctx := context.Background()
				c := client(b, startRedis(b, file).URL())
				require.NoError(b, script.Load(ctx, c).Err())
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
						for i := range batch {
							script.EvalSha(ctx, p, []string{"lf:{1}:mark"}, i, n)
						}
						return nil
					})
					require.NoError(b, err)
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "scripts/s")
			})
		}
	}
}
