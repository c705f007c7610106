package jsonl_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

var _ processor.Sink = (*jsonl.Sink)(nil)

func open(t *testing.T, path string) *jsonl.Sink {
	t.Helper()
	return openWith(t, jsonl.Options{Path: path})
}

func openWith(t *testing.T, o jsonl.Options) *jsonl.Sink {
	t.Helper()
	s, err := jsonl.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t *testing.T, s *jsonl.Sink, changes ...*ledgerfeedv1.Change) {
	t.Helper()
	require.NoError(t, s.Write(t.Context(), changes))
}

func TestSink_KeepsTheContract(t *testing.T) {
	for name, o := range map[string]jsonl.Options{
		"one file":          {},
		"a file each write": {MaxBytes: 1},
		"aged at once":      {MaxAge: 1},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Place {
				o := o
				o.Path = filepath.Join(t.TempDir(), "new", "changes.jsonl")
				return sinktest.Place{Open: func() sinktest.Sink { return openWith(t, o) }}
			})
		})
	}
}

func TestSink_WritesOneObjectALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := open(t, path)
	require.Equal(t, "jsonl", s.Name())
	write(t, s, sinktest.Change("7", 1, "{\n \"Memo\": \"<a>\"\n}"), sinktest.Tombstone("8", 2))

	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, `{"key":"1/Invoice/7/1700000001000001","realm":"1","entity":"Invoice","id":"7","version":1700000001000001,`+
		`"sync_token":"1","last_updated":"2023-11-14T22:13:21Z","deleted":false,"operation":"update","learned":"webhook",`+
		`"learned_at":"2023-11-14T22:13:22.5Z","event_id":"event-7","document":{"Memo":"<a>"}}`+"\n"+
		`{"key":"1/Invoice/8/1700000002999999","realm":"1","entity":"Invoice","id":"8","version":1700000002999999,`+
		`"last_updated":"2023-11-14T22:13:22Z","deleted":true,"operation":"delete","learned":"webhook",`+
		`"learned_at":"2023-11-14T22:13:23.5Z","event_id":"event-8"}`+"\n", string(raw))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "the file holds a company's books")
}

func TestOpen_CutsTheTornLastLine(t *testing.T) {
	for name, torn := range map[string]string{
		"short":          `{"key":"1/Inv`,
		"long":           `{"key":"` + strings.Repeat("x", 300_000),
		"zeros of a gap": strings.Repeat("\x00", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "changes.jsonl")
			s := open(t, path)
			write(t, s, sinktest.Change("7", 1, `{}`))
			require.NoError(t, s.Close())
			whole, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, append(whole, torn...), 0o600))

			before, err := jsonl.Snapshot(t.Context(), path)
			require.NoError(t, err, "a reader leaves the torn line out")
			require.Len(t, before, 1)
			s = open(t, path)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(whole), string(after))
			write(t, s, sinktest.Change("8", 1, `{}`))
			held, err := s.Snapshot(t.Context())
			require.NoError(t, err)
			require.Len(t, held, 2)
		})
	}
}

func TestOpen_CutsAFileThatIsOneTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"key":`), 0o600))
	held, err := open(t, path).Snapshot(t.Context())
	require.NoError(t, err)
	require.Empty(t, held)
}

func TestSnapshot_NamesABadLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{}\nnot json\n{}\n"), 0o600))
	_, err := jsonl.Snapshot(t.Context(), path)
	require.ErrorContains(t, err, "line 2")
}

func TestSnapshot_OfNoFileIsEmpty(t *testing.T) {
	held, err := jsonl.Snapshot(t.Context(), filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.Empty(t, held)
}

func TestOpen_SaysWhatIsWrong(t *testing.T) {
	_, err := jsonl.Open(jsonl.Options{})
	require.ErrorContains(t, err, "no path")
	_, err = jsonl.Open(jsonl.Options{Path: t.TempDir()})
	require.ErrorContains(t, err, "is a directory")
}

// A disk that refuses a write must cost an error and nothing else: the next
// write finds a file of whole lines.
func TestSink_RecoversFromAFailedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := open(t, path)
	write(t, s, sinktest.Change("7", 1, `{}`))
	s.BreakAfterHalfALine()
	err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("8", 1, `{}`)})
	require.Error(t, err)
	_, permanent := stream.AsPermanent(err)
	require.False(t, permanent)

	write(t, s, sinktest.Change("8", 1, `{}`))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

// Lines that were written but not on disk for certain when the disk failed are
// taken back; their writers must hear of it, all of them.
func TestSink_FailedSyncFailsEveryWaitingWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := open(t, path)
	write(t, s, sinktest.Change("0", 1, `{}`))
	release := s.HoldSyncs()
	var g errgroup.Group
	failed := make(chan error, 3)
	for i := range 3 {
		g.Go(func() error {
			failed <- s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change(fmt.Sprint(i+1), 1, `{}`)})
			return nil
		})
	}
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(path)
		return err == nil && strings.Count(string(raw), "\n") == 4
	}, 10*time.Second, time.Millisecond)
	s.BreakAfterHalfALine()
	release()
	require.NoError(t, g.Wait())
	for range 3 {
		require.Error(t, <-failed)
	}
	write(t, s, sinktest.Change("9", 1, `{}`))
	held, err := s.Snapshot(t.Context())
	require.NoError(t, err)
	require.Len(t, held, 2, "what was not acknowledged is gone, what was is there")
}

func BenchmarkSink_Write(b *testing.B) {
	document := `{"Memo":"` + strings.Repeat("x", 2000) + `"}`
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s, err := jsonl.Open(jsonl.Options{Path: filepath.Join(b.TempDir(), "changes.jsonl")})
			require.NoError(b, err)
			defer s.Close()
			batch := make([]*ledgerfeedv1.Change, size)
			for i := range batch {
				batch[i] = sinktest.Change(fmt.Sprint(i), 1, document)
			}
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Write(b.Context(), batch); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}
