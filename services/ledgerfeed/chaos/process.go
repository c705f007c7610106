package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// spec says how to start a process.
type spec struct {
	binary string
	args   []string
	env    []string
	dir    string // working directory
	user   *syscall.Credential
}

// process is a program that is started again when it ends by itself, as an
// orchestrator would, until it is held down.
type process struct {
	name    string
	kind    string // "ingress", "broker", …
	log     string // path: what it writes, over all its lives
	journal *journal
	spec    func() spec // asked at each start

	ended sync.WaitGroup

	mu     sync.Mutex // guards the rest
	cmd    *exec.Cmd  // nil while it is down
	gone   chan struct{}
	held   bool          // is to stay down
	over   bool          // for good
	wake   chan struct{} // closed and made anew when held or over changes
	crash  []crash       // ends nobody asked for
	lives  int
	paused bool
	clean  bool // its last end was a good one
	asked  bool // SIGTERM was sent: a second one would end it at once
	// abrupt is how often it did not end well though it was asked by SIGTERM.
	abrupt int
	// turns are when it was started, asked to end, and ended: around these another
	// replica takes over what this one had, or gives it back.
	turns []time.Time
}

// crash is an end that nobody asked for.
type crash struct {
	at   time.Time
	code int
}

func newProcess(j *journal, dir, kind, name string, spec func() spec) *process {
	return &process{name: name, kind: kind, log: filepath.Join(dir, name+".log"), journal: j, spec: spec, wake: make(chan struct{})}
}

// start begins to run it, and to start it again.
func (p *process) start() { p.ended.Go(p.supervise) }

// restartDelay is how soon an orchestrator starts a program again.
const restartDelay = 500 * time.Millisecond

func (p *process) supervise() {
	for {
		p.mu.Lock()
		held, over, wake := p.held, p.over, p.wake
		p.mu.Unlock()
		switch {
		case over:
			return
		case held:
			<-wake
			continue
		}
		if err := p.live(); err != nil {
			p.journal.note("process", p.name, "does not start: "+err.Error())
		}
		select {
		case <-wake:
		case <-time.After(restartDelay):
		}
	}
}

// live starts the program and returns when it has ended.
func (p *process) live() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s := p.spec()
	cmd := exec.CommandContext(context.Background(), s.binary, s.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.env, s.dir, log, log
	cmd.SysProcAttr = attributes(s.user)
	gone := make(chan struct{})
	p.mu.Lock()
	if p.held || p.over {
		p.mu.Unlock()
		return nil
	}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return err
	}
	begun := time.Now()
	p.cmd, p.gone, p.paused, p.clean, p.asked = cmd, gone, false, false, false
	p.lives++
	p.turns = append(p.turns, time.Now())
	p.mu.Unlock()
	p.journal.note("process", p.name, fmt.Sprintf("started, pid %d", cmd.Process.Pid))
	_ = cmd.Wait() // how it ended is in its state
	p.mu.Lock()
	p.cmd = nil
	asked := p.held || p.over
	code := cmd.ProcessState.ExitCode()
	p.clean = code == 0 || p.asked && unready(cmd.ProcessState, time.Since(begun))
	p.turns = append(p.turns, time.Now())
	if p.asked && !p.clean {
		p.abrupt++
	}
	if !asked {
		p.crash = append(p.crash, crash{time.Now(), code})
	}
	p.mu.Unlock()
	close(gone)
	switch {
	case !asked:
		p.journal.note("process", p.name, fmt.Sprintf("ended by itself: %s", cmd.ProcessState))
	case code != 0:
		p.journal.note("process", p.name, fmt.Sprintf("was ended: %s", cmd.ProcessState))
	}
	return nil
}

// handlerWait is how long a program may take from its start to the handler of SIGTERM, on
// a busy machine.
const handlerWait = 10 * time.Second

// unready reports whether SIGTERM itself ended a program that had just been started: one
// that has its handler ends by an exit code.
func unready(s *os.ProcessState, age time.Duration) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM && age < handlerWait
}

func (p *process) setLocked(held, over bool) {
	p.held, p.over = held, over
	close(p.wake)
	p.wake = make(chan struct{})
}

// down ends it by the signal and holds it down. It reports whether it ended within
// the time; if not it is killed. Where another asks for the same end already it only
// waits.
func (p *process) down(sig syscall.Signal, within time.Duration) (inTime bool) {
	p.mu.Lock()
	p.setLocked(true, p.over)
	cmd, gone := p.cmd, p.gone
	if cmd == nil {
		p.mu.Unlock()
		return true
	}
	if p.paused && sig != syscall.SIGKILL {
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
	if sig != syscall.SIGTERM || !p.asked {
		_ = cmd.Process.Signal(sig)
		p.turns = append(p.turns, time.Now())
	}
	p.asked = p.asked || sig == syscall.SIGTERM
	p.mu.Unlock()
	select {
	case <-gone:
		return true
	case <-time.After(within):
	}
	_ = cmd.Process.Kill()
	<-gone
	return false
}

const killWait = 10 * time.Second

func (p *process) kill() { p.down(syscall.SIGKILL, killWait) }

// up lets it run again.
func (p *process) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(false, p.over)
}

// pause stops it where it stands, resume lets it go on.
func (p *process) pause() error  { return p.signal(syscall.SIGSTOP, true) }
func (p *process) resume() error { return p.signal(syscall.SIGCONT, false) }

var errDown = errors.New("it is down")

func (p *process) signal(s syscall.Signal, paused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s: %w", p.name, errDown)
	}
	p.paused = paused
	return p.cmd.Process.Signal(s)
}

// pid is 0 while it is down.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// stop ends it for good.
func (p *process) stop(sig syscall.Signal, within time.Duration) (inTime bool) {
	p.mu.Lock()
	p.setLocked(p.held, true)
	p.mu.Unlock()
	inTime = p.down(sig, within)
	p.ended.Wait()
	return inTime
}

// endedWell reports whether its last end was one with exit code 0, or by SIGTERM before it
// could know of it.
func (p *process) endedWell() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clean
}

// begun is how often it was started.
func (p *process) begun() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives
}

func (p *process) crashes() []crash {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]crash(nil), p.crash...)
}

// stands notes that it has stopped by itself: it goes on with resume.
func (p *process) stands() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
}

// abruptly is how often it ended otherwise than well after SIGTERM.
func (p *process) abruptly() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.abrupt
}

// turned are the times of its starts and ends.
func (p *process) turned() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.turns...)
}
