package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
)

// binaries are the programs of a run, by path.
type binaries struct {
	dir    string
	broker string
	// altered are the services with the switches of package sabotage: for a planted
	// bug, and for a replica whose clock is wrong.
	plain, altered map[string]string
	beside         map[string]string // of the other revision; nil for none
	redis, initdb  string            // initdb's directory holds postgres too
	pgbouncer      string            // "": it is not installed
}

var services = []string{"ingress", "processor", "reconciler"}

const mutantTag = "chaosmutants"

// build makes the services of this repository, and nats-server at the version
// that go.mod names, from the module proxy.
func build(ctx context.Context, beside string, say func(string, ...any)) (binaries, error) {
	root, err := repository()
	if err != nil {
		return binaries{}, err
	}
	b := binaries{dir: filepath.Join(root, "build", "chaos", "bin"), plain: map[string]string{}, altered: map[string]string{}}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return b, err
	}
	say("building the services and nats-server into %s", b.dir)
	version, err := goTool(ctx, filepath.Join(root, "pkg"), nil, "list", "-m", "-f", "{{.Version}}", "github.com/nats-io/nats-server/v2")
	if err != nil {
		return b, err
	}
	b.broker = filepath.Join(b.dir, "nats-server")
	if _, err := goTool(ctx, b.dir, []string{"GOBIN=" + b.dir, "GOWORK=off"}, "install", "github.com/nats-io/nats-server/v2@"+version); err != nil {
		return b, err
	}
	for _, name := range services {
		b.plain[name], b.altered[name] = filepath.Join(b.dir, name), filepath.Join(b.dir, name+"-"+mutantTag)
		main := "./services/" + name + "/cmd/" + name
		if _, err := goTool(ctx, root, nil, "build", "-o", b.plain[name], main); err != nil {
			return b, err
		}
		if _, err := goTool(ctx, root, nil, "build", "-tags", mutantTag, "-o", b.altered[name], main); err != nil {
			return b, err
		}
	}
	if b.beside, err = buildBeside(ctx, root, beside, say); err != nil {
		return b, err
	}
	if b.redis, err = exec.LookPath("redis-server"); err != nil {
		return b, errors.New("redis-server is not installed: run `apt-get install redis-server` (Debian) or `brew install redis` (macOS)")
	}
	b.pgbouncer = findPgbouncer()
	b.initdb, err = findInitdb()
	return b, err
}

// buildBeside makes the services as they were at another revision, from a work tree
// of its own.
func buildBeside(ctx context.Context, root, revision string, say func(string, ...any)) (map[string]string, error) {
	if revision == "" {
		return nil, nil
	}
	commit, err := toolIn(ctx, root, nil, "git", "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("--beside %s: it is no revision of this repository", revision))
	}
	dir := filepath.Join(root, "build", "chaos", commit)
	tree := filepath.Join(dir, "tree")
	say("building the services of %s into %s", revision, dir)
	if _, err := os.Stat(tree); err != nil {
		if _, err := toolIn(ctx, root, nil, "git", "worktree", "add", "--force", "--detach", tree, commit); err != nil {
			return nil, err
		}
	}
	made := map[string]string{}
	for _, name := range services {
		made[name] = filepath.Join(dir, name)
		if _, err := goTool(ctx, tree, []string{"GOWORK=" + filepath.Join(tree, "go.work")}, "build", "-o", made[name], "./services/"+name+"/cmd/"+name); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// repository is the directory of go.work, at or above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("chaos builds what it runs: start it in a checkout of Ledgerfeed")
		}
		dir = parent
	}
}

func goTool(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	return toolIn(ctx, dir, env, "go", args...)
}

func toolIn(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// findPgbouncer is "" where there is none.
func findPgbouncer() string {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path
	}
	const debian = "/usr/sbin/pgbouncer" // not in everybody's PATH
	if _, err := os.Stat(debian); err != nil {
		return ""
	}
	return debian
}

// findInitdb looks where Debian keeps the server's programs, then in PATH.
func findInitdb() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return path, nil
	}
	return "", errors.New("PostgreSQL is not installed: run `apt-get install postgresql` (Debian) or `brew install postgresql@16` (macOS, with its bin in PATH)")
}
