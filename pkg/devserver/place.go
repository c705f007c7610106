package devserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Loopback is the loopback address of this machine: 127.0.0.1, or ::1 where there is none
// of IPv4.
func Loopback() string { return loopbackOf(listen) }

func loopbackOf(listen func(host string, port int) (net.Listener, error)) string {
	const v4 = "127.0.0.1"
	l, err := listen(v4, 0)
	if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
		return "::1"
	}
	if err == nil {
		_ = l.Close()
	}
	return v4
}

// loopback splits a listen address and refuses one that others could reach:
// these servers ask nobody for a password.
func loopback(listen string) (host string, port int, err error) {
	if listen == "" {
		listen = net.JoinHostPort(Loopback(), "0")
	}
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: want host:port", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("listen address %q: want a loopback address such as 127.0.0.1:%s", listen, text)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen address %q: port %q is no number from 0 to 65535", listen, text)
	}
	return host, port, nil
}

func listen(host string, port int) (net.Listener, error) {
	// Nothing to cancel: binding a loopback port does not wait.
	return new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

func writable(dir string) error {
	if dir == "" {
		return errors.New("no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("directory %s cannot be written: %w", filepath.Clean(dir), err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}

// lockFile keeps a second process off: two would overwrite each other. The
// kernel drops the lock with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("in use by another process")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
