package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// modules lets the build have its modules: from the proxy that this machine is
// set to, and with options.modcache from what it has downloaded already.
func (b *builder) modules(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOPROXY", "GOSUMDB", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	env := strings.Split(strings.TrimSpace(string(out)), "\n")
	proxy := env[0]
	if b.modcache {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Join(env[2], "cache", "download"))), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(listener) }() // until the process ends
		proxy = "http://" + listener.Addr().String() + "," + proxy
		b.args = append(b.args, "--network", "host")
	}
	b.args = append(b.args, "--build-arg", "GOPROXY="+proxy)
	if sums := os.Getenv("GOSUMDB"); sums != "" {
		b.args = append(b.args, "--build-arg", "GOSUMDB="+sums)
	}
	return nil
}

// unpacked is the size of the files of a layer.
func unpacked(l v1.Layer) (total int64, err error) {
	r, err := l.Uncompressed()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
		total += h.Size
	}
}
