package jsonl_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/jsonl"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/sinktest"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// files are those in the directory of path, in the order of their lines.
func files(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// ids are those of all records, in the order they are read.
func ids(t *testing.T, path string) []string {
	t.Helper()
	var all []string
	for r, err := range jsonl.Records(t.Context(), path) {
		require.NoError(t, err)
		all = append(all, r.ID)
	}
	return all
}

func writeIDs(t *testing.T, s *jsonl.Sink, from, to int) {
	t.Helper()
	for id := from; id <= to; id++ {
		write(t, s, sinktest.Change(strconv.Itoa(id), 1, `{}`))
	}
}

func TestSink_PutsALargeFileAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := openWith(t, jsonl.Options{Path: path, MaxBytes: 400}) // two lines
	writeIDs(t, s, 1, 5)

	names := files(t, path)
	require.Len(t, names, 3)
	require.Regexp(t, `^changes\.\d{8}T\d{6}\.\d{3}Z\.jsonl$`, names[0])
	require.Equal(t, "changes.jsonl", names[2], "the newest is the last by name")
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, ids(t, path))
	info, err := os.Stat(filepath.Join(filepath.Dir(path), names[0]))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "the file holds a company's books")
}

func TestSink_GoesOnWithFilesOfBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	for id := 1; id <= 4; id++ {
		s := openWith(t, jsonl.Options{Path: path, MaxBytes: 400})
		writeIDs(t, s, id, id)
		require.NoError(t, s.Close())
	}
	require.Len(t, files(t, path), 3)
	require.Equal(t, []string{"1", "2", "3", "4"}, ids(t, path))
	empty, err := jsonl.Empty(path)
	require.NoError(t, err)
	require.False(t, empty, "its newest file is, the others are not")

	require.NoError(t, os.Remove(path))
	require.Equal(t, []string{"1", "2", "3", "4"}, ids(t, path))
	empty, err = jsonl.Empty(filepath.Join(t.TempDir(), "none", "changes.jsonl"))
	require.NoError(t, err)
	require.True(t, empty)
}

func TestSink_KeepsTheNewestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	stranger := filepath.Join(filepath.Dir(path), "changes.2020.jsonl")
	require.NoError(t, os.WriteFile(stranger, nil, 0o600))
	s := openWith(t, jsonl.Options{Path: path, MaxBytes: 1, Keep: 2})
	writeIDs(t, s, 1, 5)
	require.Equal(t, []string{"4", "5"}, ids(t, path))
	require.FileExists(t, stranger, "not one of ours")
}

func TestSink_PutsAnOldFileAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "changes.jsonl")
		o := jsonl.Options{Path: path, MaxAge: time.Hour}
		s := openWith(t, o)
		time.Sleep(3 * time.Hour)
		require.Len(t, files(t, path), 1, "an empty file has no age")

		c := sinktest.Change("1", 1, `{}`)
		c.LearnedAt = timestamppb.Now()
		write(t, s, c)
		time.Sleep(40 * time.Minute)
		require.NoError(t, s.Close())
		s = openWith(t, o) // which must not make it young again
		writeIDs(t, s, 2, 2)
		require.Len(t, files(t, path), 1)
		time.Sleep(21 * time.Minute)
		synctest.Wait()
		require.Len(t, files(t, path), 2)
		require.Equal(t, []string{"1", "2"}, ids(t, path))
		require.NoError(t, s.Close())
		time.Sleep(3 * time.Hour)
		require.Len(t, files(t, path), 2)
	})
}

// Names must not repeat or go back with the clock, or with files carried away.
func TestSink_NamesGrowWhateverTheClockSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose clock stands still
		path := filepath.Join(t.TempDir(), "changes.jsonl")
		future := filepath.Join(filepath.Dir(path), "changes.20990101T000000.999Z.jsonl")
		require.NoError(t, os.WriteFile(future, nil, 0o600))
		s := openWith(t, jsonl.Options{Path: path, MaxBytes: 1})
		writeIDs(t, s, 1, 1)
		require.NoError(t, os.Remove(filepath.Join(filepath.Dir(path), "changes.20990101T000001.000Z.jsonl")))
		require.NoError(t, os.Remove(future))
		writeIDs(t, s, 2, 3)
		require.Equal(t, []string{"changes.20990101T000001.001Z.jsonl", "changes.20990101T000001.002Z.jsonl", "changes.jsonl"}, files(t, path))
		require.Equal(t, []string{"2", "3"}, ids(t, path))
	})
}

// What cannot be put aside is still written.
func TestSink_AFileThatCannotBePutAsideGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 250)) // the name with a time is too long
	core, logs := observer.New(zap.WarnLevel)
	s := openWith(t, jsonl.Options{Path: path, MaxBytes: 1, Logger: zap.New(core)})
	writeIDs(t, s, 1, 3)
	require.Equal(t, []string{"1", "2", "3"}, ids(t, path))
	require.Equal(t, 1, logs.FilterMessage("file not rotated").Len(), "not again at once")
}

// Where no new file can be begun the next write does it.
func TestSink_BeginsTheFileLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := openWith(t, jsonl.Options{Path: path, MaxBytes: 1})
	s.OnStep(func(step string) {
		if step == "put aside" {
			require.NoError(t, os.Mkdir(path, 0o700))
		}
	})
	writeIDs(t, s, 1, 1)
	s.OnStep(func(string) {})
	require.Error(t, s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change("2", 1, `{}`)}))
	require.NoError(t, os.Remove(path))
	writeIDs(t, s, 2, 3)
	require.Equal(t, []string{"1", "2", "3"}, ids(t, path))
}

// Writers that share an fsync, files put aside between them, and readers.
func TestSink_WritersAndReadersOfManyFiles(t *testing.T) {
	const writers, each = 8, 40
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	s := openWith(t, jsonl.Options{Path: path, MaxBytes: 900})
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for n := range each {
				if err := s.Write(t.Context(), []*ledgerfeedv1.Change{sinktest.Change(fmt.Sprint(w), int64(n), `{}`)}); err != nil {
					return err
				}
				// What is written is there for whoever reads now, and in order.
				if err := inOrder(t, path, fmt.Sprint(w), n+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Len(t, ids(t, path), writers*each)
	require.Greater(t, len(files(t, path)), 10)
}

func inOrder(t *testing.T, path, id string, want int) error {
	seen, version := 0, int64(0)
	for r, err := range jsonl.Records(t.Context(), path) {
		if err != nil {
			return err
		}
		if r.ID != id {
			continue
		}
		if seen++; r.Version <= version {
			return fmt.Errorf("%s: version %d after %d", id, r.Version, version)
		}
		version = r.Version
	}
	if seen != want {
		return fmt.Errorf("%s: %d records, want %d", id, seen, want)
	}
	return nil
}

// steps of putting a file aside, at each of which a process is killed.
var steps = []string{"on disk", "put aside", "begun", "removing"}

func TestSink_KilledWhileItPutsAFileAside(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "changes.jsonl")
			told := die(t, path, step)
			require.NotEmpty(t, told)

			s := openWith(t, jsonl.Options{Path: path, MaxBytes: 1})
			writeIDs(t, s, 1001, 1002)
			held := ids(t, path)
			require.Empty(t, cmp.Diff([]string{"1001", "1002"}, held[len(held)-2:]))
			if step == "removing" {
				told = told[len(told)-1:] // the others were to be removed
			}
			for _, id := range told {
				require.Contains(t, held, id)
			}
			require.Len(t, slices.Collect(maps.Keys(set(held))), len(held), "twice: %v", held)
			require.True(t, slices.IsSortedFunc(held, func(a, b string) int {
				x, _ := strconv.Atoi(a)
				y, _ := strconv.Atoi(b)
				return x - y
			}), "%v", held)
		})
	}
}

func set(all []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range all {
		m[s] = true
	}
	return m
}

// die runs TestChild until it is killed and returns the ids it was told are stored.
func die(t *testing.T, path, step string) (told []string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), "JSONL_CRASH="+step, "JSONL_PATH="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
			told = append(told, id)
		}
	}
	require.ErrorContains(t, cmd.Wait(), "killed")
	return told
}

// TestChild is what the test above kills, when it comes to a step for the third time.
func TestChild(t *testing.T) {
	at := os.Getenv("JSONL_CRASH")
	if at == "" {
		return
	}
	o := jsonl.Options{Path: os.Getenv("JSONL_PATH"), MaxBytes: 400}
	if at == "removing" {
		o.Keep = 1
	}
	s := openWith(t, o)
	times := 0
	s.OnStep(func(step string) {
		if step == at {
			times++
		}
		if times == 3 {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				_ = self.Kill()
			}
			select {}
		}
	})
	for id := range 100 {
		writeIDs(t, s, id, id)
		fmt.Printf("stored %d\n", id)
	}
}
