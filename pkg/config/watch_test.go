package config_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func put(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func swap(t *testing.T, link, target string) {
	t.Helper()
	require.NoError(t, os.Symlink(target, link+".tmp"))
	require.NoError(t, os.Rename(link+".tmp", link))
}

// onEvents is a watch that cannot find anything by polling.
func onEvents(files ...string) *config.Watch {
	w := config.NewWatch(files...)
	w.PollEvery(time.Hour)
	return w
}

// run runs the watch and returns what tells of the content after each change of
// the file, and of troubles.
func run(t *testing.T, w *config.Watch, file string) (seen <-chan string, troubles <-chan error) {
	t.Helper()
	texts, errs := make(chan string, 100), make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx, func(err error) { errs <- err }, func() {
			text, _ := os.ReadFile(file)
			texts <- string(text)
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return texts, errs
}

// becomes waits until the content is reported.
func becomes(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-seen:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("%q was never reported", want)
		}
	}
}

// started waits until the watch runs: it has then seen what was changed before.
func started(t *testing.T, w *config.Watch, file string) <-chan string {
	t.Helper()
	put(t, file, "before the watch ran")
	seen, _ := run(t, w, file)
	becomes(t, seen, "before the watch ran")
	return seen
}

func TestWatch_SeesAFileWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, "one")
	seen := started(t, onEvents(file), file)
	put(t, file, "two")
	becomes(t, seen, "two")
	put(t, file, "three")
	becomes(t, seen, "three")
}

func TestWatch_MissingForAWhileAndRenamedOver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	put(t, file, "one")
	seen := started(t, onEvents(file), file)
	require.NoError(t, os.Remove(file))
	becomes(t, seen, "")
	put(t, filepath.Join(dir, "new"), "two")
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), file))
	becomes(t, seen, "two")
}

// The way of Kubernetes: the file is a link through ..data, which is swapped,
// and what it led to is removed.
func TestWatch_FollowsASwappedSecret(t *testing.T) {
	dir := t.TempDir()
	mount := func(text string) {
		version := filepath.Join(dir, "..v-"+text)
		require.NoError(t, os.Mkdir(version, 0o700))
		put(t, filepath.Join(version, "token"), text)
		old, _ := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
		swap(t, filepath.Join(dir, "..data"), filepath.Base(version))
		if old != "" {
			require.NoError(t, os.RemoveAll(old))
		}
	}
	mount("one")
	file := filepath.Join(dir, "token")
	require.NoError(t, os.Symlink("..data/token", file))
	seen := started(t, onEvents(file), file)
	for _, text := range []string{"two", "three", "four"} {
		mount(text)
		becomes(t, seen, text)
	}
}

// A link on the way is swapped, in a directory that is neither the file's nor
// its target's.
func TestWatch_FollowsALinkOnTheWay(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"etc", "live", "v1", "v2"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	put(t, filepath.Join(dir, "v1", "token"), "one")
	put(t, filepath.Join(dir, "v2", "token"), "two")
	current := filepath.Join(dir, "live", "current")
	swap(t, current, "../v1")
	file := filepath.Join(dir, "etc", "token")
	require.NoError(t, os.Symlink(filepath.Join(current, "token"), file))
	seen := started(t, onEvents(file), file)
	swap(t, current, "../v2")
	becomes(t, seen, "two")
	put(t, filepath.Join(dir, "v2", "token"), "three")
	becomes(t, seen, "three")
}

// No events come from a directory that is not there; the poll finds the file,
// and from then on there are events again.
func TestWatch_LooksWhereThereAreNoEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mounted", "later")
	file := filepath.Join(dir, "token")
	w := config.NewWatch(file)
	w.PollEvery(10 * time.Millisecond)
	seen, troubles := run(t, w, file)
	require.ErrorContains(t, <-troubles, dir)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	put(t, file, "one")
	becomes(t, seen, "one")
	require.Empty(t, troubles, "told once")
}

// Files may be replaced while the watch runs, as when a setting names another one.
func TestWatch_FollowsOtherFiles(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	put(t, one, "1")
	put(t, two, "2")
	w := onEvents(one)
	seen := started(t, w, one)
	w.Follow(one, two)
	put(t, two, "changed")
	becomes(t, seen, "before the watch ran")
	put(t, one, "changed too")
	becomes(t, seen, "changed too")
}

func TestWatch_TakesWhatIsThereAsKnown(t *testing.T) {
	file, other := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "other")
	put(t, file, "one")
	w := config.NewWatch(file)
	require.False(t, w.Look())
	put(t, file, "two")
	w.Follow(file, other)
	require.False(t, w.Look(), "it is read after Follow")
	put(t, other, "there")
	require.True(t, w.Look())
	require.False(t, w.Look(), "once")

	put(t, file, "three")
	w.Add(other)
	require.True(t, w.Look(), "it was not read since")
}

func TestWatch_LeavesPipesToTheirReader(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString("ingress: {}\n")
	require.NoError(t, err)
	files := config.Files(&settings{}, pipe, nil)
	require.Equal(t, []string{pipe}, files)
	config.NewWatch(files...)
	text := make([]byte, 100)
	n, err := f.Read(text)
	require.NoError(t, err)
	require.Equal(t, "ingress: {}\n", string(text[:n]))
}

func TestFiles_AreThoseThatLoadReads(t *testing.T) {
	type settings struct {
		Ingress struct {
			Apps  secret.String `koanf:"apps"`
			Other secret.String `koanf:"other"`
			Name  string        `koanf:"name"`
		} `koanf:"ingress"`
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	put(t, file, "ingress:\n  other_file: "+filepath.Join(dir, "other")+"\n  name: x\n")
	environ := []string{"LEDGERFEED_CONFIG=" + file, "LEDGERFEED_INGRESS_APPS_FILE=" + filepath.Join(dir, "apps")}
	require.ElementsMatch(t, []string{file, filepath.Join(dir, "other"), filepath.Join(dir, "apps")}, config.Files(&settings{}, "", environ))
	require.Empty(t, config.Files(&settings{}, "", nil))
}
