package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// watch starts to watch and returns what tells of changes.
func watch(t *testing.T, files ...string) <-chan string {
	t.Helper()
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config.Watch(ctx, files, func(err error) { t.Log(err) }, func() {
			text, _ := os.ReadFile(files[0])
			seen <- string(text)
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return seen
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

// until changes something, each time in another way, until the change is seen:
// the watch may not have begun at the first.
func until(t *testing.T, seen <-chan string, change func(n int) (want string)) {
	t.Helper()
	for n := range 40 {
		want := change(n)
		select {
		case got := <-seen:
			if got == want {
				return
			}
		case <-time.After(time.Second):
		}
	}
	t.Fatal("no change was seen")
}

func TestWatch_SeesAFileWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, "one")
	seen := watch(t, file)
	until(t, seen, func(n int) string {
		text := fmt.Sprint("two ", n)
		put(t, file, text)
		return text
	})
	put(t, file, "three")
	becomes(t, seen, "three")
}

// The way of Kubernetes: the file is a link through ..data, which is swapped.
func TestWatch_FollowsASwappedLink(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink("..v0", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/token", filepath.Join(dir, "token")))
	swap := func(text string) {
		version := "..v" + text
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		put(t, filepath.Join(dir, version, "token"), text)
		require.NoError(t, os.Symlink(version, filepath.Join(dir, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	swap("0")
	seen := watch(t, filepath.Join(dir, "token"))
	until(t, seen, func(n int) string {
		swap(fmt.Sprint(n + 1))
		return fmt.Sprint(n + 1)
	})
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..v0")))
	swap("last")
	becomes(t, seen, "last")
}

func TestWatch_MissingForAWhileAndRenamedOver(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	put(t, file, "one")
	seen := watch(t, file)
	until(t, seen, func(n int) string {
		text := fmt.Sprint("two ", n)
		put(t, file, text)
		return text
	})
	require.NoError(t, os.Remove(file))
	becomes(t, seen, "")
	put(t, filepath.Join(dir, "new"), "three")
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), file))
	becomes(t, seen, "three")
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
