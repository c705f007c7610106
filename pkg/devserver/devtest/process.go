package devtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errPortTaken: between asking for a free port and using it somebody else took it.
var errPortTaken = errors.New("port was taken meanwhile")

// process is a server that dies with this process, however this process ends.
type process struct {
	cmd    *exec.Cmd
	log    string
	signal syscall.Signal

	watchdog *exec.Cmd
	leash    io.WriteCloser
}

// spec is what to start. A new process gets its own log.
type spec struct {
	binary string
	args   []string
	dir    string // working directory and place of the log
	user   *syscall.Credential
	signal syscall.Signal // what ends it at once without a trace
	remove string         // directory to remove when this process dies early
}

// watch ends the server when this process is gone: the kernel then closes the
// pipe that it reads. Linux could tie the server to its parent, macOS cannot.
const watch = `read -r line; [ "$line" = bye ] && exit; kill -s "$1" "$2" 2>/dev/null; sleep 1; [ -n "$3" ] && rm -rf "$3"`

func start(s spec) (*process, error) {
	log, err := os.CreateTemp(s.dir, "log-*")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{log: log.Name(), signal: s.signal}
	p.cmd = exec.CommandContext(context.Background(), s.binary, s.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.binary, err)
	}
	name := strings.TrimPrefix(strings.ToUpper(signalName(s.signal)), "SIG")
	p.watchdog = exec.CommandContext(context.Background(), "/bin/sh", "-c", watch, "sh", name, strconv.Itoa(p.cmd.Process.Pid), s.remove)
	p.watchdog.SysProcAttr = &syscall.SysProcAttr{Credential: s.user, Setpgid: true}
	leash, err := p.watchdog.StdinPipe()
	if err == nil {
		err = p.watchdog.Start()
	}
	if err != nil {
		p.kill(syscall.SIGKILL)
		return nil, fmt.Errorf("watch %s: %w", s.binary, err)
	}
	p.leash = leash
	return p, nil
}

func signalName(s syscall.Signal) string {
	if s == syscall.SIGQUIT {
		return "QUIT"
	}
	return "KILL"
}

// stop ends the server and waits for it.
func (p *process) stop() {
	p.kill(p.signal)
	// Only now: a server without its watchdog would outlive a crash in between.
	_, _ = io.WriteString(p.leash, "bye\n")
	p.leash.Close()
	_ = p.watchdog.Wait()
}

// kill waits for the end. The errors say that it was gone already, or how it
// ended: by the signal.
func (p *process) kill(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	_ = p.cmd.Wait()
}

// until calls ready until it succeeds, or fails with the server's own words.
func (p *process) until(ready func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		err := ready()
		if err == nil {
			return nil
		}
		log, _ := os.ReadFile(p.log)
		if strings.Contains(strings.ToLower(string(log)), "address already in use") {
			return errPortTaken
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not become ready: %w\n%s", filepath.Base(p.cmd.Path), err, log)
		}
	}
}

// untilListening waits until the server takes connections, and stops it if it does not.
func (p *process) untilListening(address string) error {
	err := p.until(func() error {
		conn, err := dial(address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		p.stop()
	}
	return err
}

func dial(addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second}
	return d.DialContext(context.Background(), "tcp", addr)
}
