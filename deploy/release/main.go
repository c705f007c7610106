// Command release makes everything of a release in a directory of its own: the modules as a
// module proxy serves them, the programs for each platform, a list of what is in each of
// them, the images, the notes and the checksums.
//
// It guarantees that all of it comes from the commit that is checked out, and that every
// module can be resolved outside the repository.
//
// It is a dry run: it pushes and tags nothing, and prints the commands that would. With
// -write it changes the go.mod files of the working tree, and does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

type options struct {
	root, out, version, docker string
	// lister is a cyclonedx-gomod.
	lister string
	// unreleased are directories of modules that nobody outside needs.
	unreleased, platforms []string
	write                 bool
	stdout                io.Writer
}

func main() {
	o := options{stdout: os.Stdout}
	var unreleased, platforms string
	flag.StringVar(&o.root, "root", "..", "directory of the repository")
	flag.StringVar(&o.version, "version", "", "version, such as v0.1.0")
	flag.StringVar(&o.docker, "docker", "docker", "the docker command")
	flag.StringVar(&unreleased, "unreleased", "", "directories of modules that are not released, with blanks between")
	flag.StringVar(&platforms, "platforms", "linux/amd64 linux/arm64", "platforms of the programs")
	flag.BoolVar(&o.write, "write", false, "have the modules in the working tree require each other's version, and stop")
	flag.Parse()
	o.unreleased, o.platforms = strings.Fields(unreleased), strings.Fields(platforms)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "release:", strings.ReplaceAll(err.Error(), "\n", "\nrelease: "))
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var err error
	if o.root, err = filepath.Abs(o.root); err != nil {
		return err
	}
	o.out = filepath.Join(o.root, "build", "release")
	if err := checkVersion(o.version); err != nil {
		return err
	}
	modules, err := released(o.root, o.unreleased)
	if err != nil {
		return err
	}
	if o.write {
		return writeVersions(ctx, o.root, modules, o.version)
	}
	notes, err := o.check(ctx, modules)
	if err != nil {
		return err
	}
	if err := o.prepare(ctx, modules); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.out, "NOTES.md"), []byte(notes), 0o644); err != nil {
		return err
	}
	tools, err := os.MkdirTemp("", "ledgerfeed-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tools) }()
	if o.lister, err = installLister(ctx, o.source(), tools); err != nil {
		return err
	}
	for _, step := range []func(context.Context, []releasedModule) error{o.pack, o.resolve, o.build, o.images} {
		if err := step(ctx, modules); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(o.source()); err != nil {
		return err
	}
	if err := checksums(o.out); err != nil {
		return err
	}
	o.say("\nEverything is in %s, and nothing was pushed or tagged. The release would be:\n\n%s", o.out, commands(o, modules))
	return nil
}

func (o options) say(format string, args ...any) { fmt.Fprintf(o.stdout, format+"\n", args...) }

// source is a clone in which the release is made: of what is committed, and nothing else.
func (o options) source() string { return filepath.Join(o.out, "src") }

// prepare clones the repository and makes in the clone the commit that would be tagged.
func (o options) prepare(ctx context.Context, modules []releasedModule) error {
	if err := os.RemoveAll(o.out); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if _, err := command(ctx, o.root, nil, "git", "clone", "--quiet", "--no-tags", o.root, o.source()); err != nil {
		return err
	}
	if err := writeVersions(ctx, o.source(), modules, o.version); err != nil {
		return err
	}
	_, err := command(ctx, o.source(), nil, "git", "-c", "user.name=release", "-c", "user.email=release@localhost",
		"commit", "--quiet", "--allow-empty", "--all", "--message", "go.mod: require "+o.version+" of each other")
	return err
}

// command runs a program in a directory and returns what it printed; an error holds what it
// complained about.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// commands are those of the real release.
func commands(o options, modules []releasedModule) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	line("make release-write VERSION=%s && git commit -am 'go.mod: require %[1]s of each other'", o.version)
	line("make release VERSION=%s      # once more, of that commit", o.version)
	tags := []string{o.version}
	for _, m := range modules {
		tags = append(tags, m.tag(o.version))
	}
	line("for tag in %s; do git tag -s -m \"$tag\" \"$tag\"; done", strings.Join(tags, " "))
	line("git push --atomic origin HEAD %s", strings.Join(tags, " "))
	for _, p := range programs(modules) {
		line("docker tag ledgerfeed/%s:%s REGISTRY/%[1]s:%[2]s && docker push REGISTRY/%[1]s:%[2]s", p.name, o.version)
	}
	line("gh release create %s --verify-tag --notes-file build/release/NOTES.md build/release/{SHA256SUMS,*_%[1]s_*}", o.version)
	return b.String()
}
