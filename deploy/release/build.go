package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// program is a main package of a module.
type program struct{ module, dir, name string }

func programs(modules []releasedModule) []program {
	var all []program
	for _, m := range modules {
		for _, dir := range m.programs {
			all = append(all, program{module: m.dir, dir: dir, name: filepath.Base(dir)})
		}
	}
	return all
}

// build compiles each program for each platform, as the Dockerfile does, and lists the
// modules in it.
func (o options) build(ctx context.Context, modules []releasedModule) error {
	for _, p := range programs(modules) {
		for _, platform := range o.platforms {
			goos, goarch, _ := strings.Cut(platform, "/")
			name := fmt.Sprintf("%s_%s_%s_%s", p.name, o.version, goos, goarch)
			file := filepath.Join(o.out, name)
			_, err := command(ctx, filepath.Join(o.source(), p.module), []string{"GOWORK=off", "CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch},
				"go", "build", "-tags", "grpcnotrace", "-trimpath", "-buildvcs=false",
				"-ldflags", "-s -w -X github.com/ledgerfeed/ledgerfeed/pkg/lifecycle.version="+o.version, "-o", file, "./"+p.dir)
			if err != nil {
				return fmt.Errorf("build %s for %s: %w", p.name, platform, err)
			}
			o.say("program  %s", name)
			if _, err := command(ctx, o.out, nil, o.lister, "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", o.version, "-output", file+".cdx.json", file); err != nil {
				return fmt.Errorf("list the modules of %s: %w", name, err)
			}
		}
	}
	return nil
}

var listerPin = regexp.MustCompile(`(?m)^ARG CYCLONEDX=(\S+)$`)

// installLister builds the version of cyclonedx-gomod that the Dockerfile names, and returns
// its file.
func installLister(ctx context.Context, root, into string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "docker", "Dockerfile"))
	if err != nil {
		return "", err
	}
	pin := listerPin.FindSubmatch(text)
	if pin == nil {
		return "", fmt.Errorf("deploy/docker/Dockerfile names no version of cyclonedx-gomod (ARG CYCLONEDX=)")
	}
	if _, err := command(ctx, into, []string{"GOWORK=off", "GOFLAGS=-mod=mod", "GOBIN=" + into}, "go", "install", "-trimpath", string(pin[1])); err != nil {
		return "", err
	}
	return filepath.Join(into, "cyclonedx-gomod"), nil
}

// answers reports whether the container engine does.
func answers(ctx context.Context, docker string) bool {
	return exec.CommandContext(ctx, docker, "info").Run() == nil
}

// images builds them with the tool that `make images` runs, if an engine answers.
func (o options) images(ctx context.Context, _ []releasedModule) error {
	if !answers(ctx, o.docker) {
		o.say("images   left out: no container engine answers")
		return nil
	}
	revision, err := command(ctx, o.root, nil, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	digests, err := command(ctx, filepath.Join(o.source(), "deploy"), []string{"GOWORK=off"},
		"go", "run", "./images", "-root", "..", "-docker", o.docker, "-version", o.version, "-revision", revision)
	if err != nil {
		return fmt.Errorf("build the images: %w", err)
	}
	o.say("images\n%s", digests)
	return os.WriteFile(filepath.Join(o.out, "images.txt"), []byte(digests+"\n"), 0o644)
}

// checksums writes SHA256SUMS for all files of a directory; sha256sum -c reads it.
func checksums(dir string) error {
	var sums strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", hash.Sum(nil), filepath.ToSlash(inside))
		return nil
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
