// Command images builds the container image of every service with the Dockerfile
// and gives it the digest that its content alone decides: the same source and
// version have the same digest on every machine.
//
// It guarantees that the images of the services are no larger than they may be.
// It pushes nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// services are the targets of the Dockerfile, and how many bytes each image may
// have as the engine keeps it; 0 is no bound.
var services = []struct {
	name string
	most int64
}{{"ingress", 25e6}, {"processor", 25e6}, {"reconciler", 25e6}, {"ledgerfeed", 0}}

type options struct {
	root, docker, version, revision string
	modcache, check                 bool
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "..", "directory of the repository")
	flag.StringVar(&o.docker, "docker", "docker", "the docker command; without BuildKit in it, /usr/bin/docker is tried")
	flag.StringVar(&o.version, "version", "dev", "version, which is the tag too")
	flag.StringVar(&o.revision, "revision", "unknown", "commit")
	flag.BoolVar(&o.modcache, "modcache", false, "take modules from this machine's module cache first, over the host's network")
	flag.BoolVar(&o.check, "check", false, "build everything a second time, without the cache, and fail if a digest differs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	docker, err := engine(ctx, o.docker)
	if err != nil {
		return err
	}
	b := &builder{options: o, docker: docker, args: []string{"--build-arg", "VERSION=" + o.version, "--build-arg", "REVISION=" + o.revision}}
	if err := b.modules(ctx); err != nil {
		return err
	}
	if b.scratch, err = os.MkdirTemp("", "ledgerfeed-images-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.scratch) }()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	for i, s := range services {
		first, err := b.build(ctx, s.name, false)
		if err != nil {
			return err
		}
		if o.check {
			// The targets share a stage: it is built anew with the first of them.
			second, err := b.build(ctx, s.name, i == 0)
			if err != nil {
				return err
			}
			if first.digest != second.digest {
				return fmt.Errorf("%s: built twice, digests %s and %s", s.name, first.digest, second.digest)
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%.1f MB\n", first.tag, first.digest, float64(first.bytes)/1e6)
		if s.most > 0 && first.bytes > s.most {
			return fmt.Errorf("%s: %d bytes, and it may have %d", s.name, first.bytes, s.most)
		}
	}
	if o.check {
		fmt.Fprintln(table, "each built twice, with the same digest")
	}
	return nil
}

// engine returns a docker command that can build and whose engine answers.
func engine(ctx context.Context, docker string) (string, error) {
	for _, command := range []string{docker, "/usr/bin/docker"} {
		if _, err := exec.LookPath(command); err != nil {
			continue
		}
		// Newer clients build by a plugin, older ones by themselves.
		client, err := exec.CommandContext(ctx, command, "version", "--format", "{{.Client.Version}}").Output()
		if err != nil && len(client) == 0 {
			return "", fmt.Errorf("no container engine answers: install docker.io, start dockerd, or set DOCKER_HOST")
		}
		old := strings.HasPrefix(string(client), "20.") || strings.HasPrefix(string(client), "19.")
		if old || exec.CommandContext(ctx, command, "buildx", "version").Run() == nil {
			if exec.CommandContext(ctx, command, "info").Run() != nil {
				return "", errors.New("no container engine answers: install docker.io, start dockerd, or set DOCKER_HOST")
			}
			return command, nil
		}
	}
	return "", fmt.Errorf("%s cannot build: install Docker with BuildKit (Debian: docker.io)", docker)
}

type builder struct {
	options
	docker, scratch string
	args            []string
}

// image is one that is in the engine.
type image struct {
	tag, digest string
	bytes       int64
}

func (b *builder) build(ctx context.Context, service string, fresh bool) (image, error) {
	tag := "ledgerfeed/" + service + ":" + b.version
	args := append([]string{"build", "--file", "deploy/docker/Dockerfile", "--target", service, "--tag", tag, "--progress", "plain"}, b.args...)
	if fresh {
		args = append(args, "--no-cache")
	}
	log := filepath.Join(b.scratch, "log")
	if err := b.run(ctx, log, append(args, ".")...); err != nil {
		return image{}, fmt.Errorf("build %s: %w", service, err)
	}
	return b.settle(ctx, tag)
}

// run runs docker quietly; what it said is shown when it fails.
func (b *builder) run(ctx context.Context, log string, args ...string) error {
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, b.docker, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.root, f, f
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log)
		return fmt.Errorf("docker %s: %w\n%s", args[0], err, said[max(0, len(said)-4000):])
	}
	return nil
}

// settle takes the times out of the image, which differ from build to build.
func (b *builder) settle(ctx context.Context, tag string) (image, error) {
	built, settled, log := filepath.Join(b.scratch, "built.tar"), filepath.Join(b.scratch, "settled.tar"), filepath.Join(b.scratch, "log")
	if err := b.run(ctx, log, "save", "--output", built, tag); err != nil {
		return image{}, err
	}
	img, err := tarball.ImageFromPath(built, nil)
	if err != nil {
		return image{}, fmt.Errorf("read %s: %w", tag, err)
	}
	if img, err = mutate.Canonical(img); err != nil {
		return image{}, fmt.Errorf("take the times out of %s: %w", tag, err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		return image{}, err
	}
	if err := tarball.WriteToFile(settled, ref, img); err != nil {
		return image{}, fmt.Errorf("write %s: %w", tag, err)
	}
	if err := b.run(ctx, log, "load", "--input", settled); err != nil {
		return image{}, err
	}
	return measure(tag, img)
}

// measure adds up the layers as they are unpacked, which is what the engine keeps.
func measure(tag string, img v1.Image) (image, error) {
	digest, err := img.ConfigName()
	if err != nil {
		return image{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return image{}, err
	}
	i := image{tag: tag, digest: digest.String()}
	for _, l := range layers {
		n, err := unpacked(l)
		if err != nil {
			return image{}, err
		}
		i.bytes += n
	}
	return i, nil
}
