package devserver

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// RedisOptions say where the embedded Redis keeps its data.
type RedisOptions struct {
	// Journal is the file that keeps the data; it is created if missing, and
	// only one server at a time may use it. Empty keeps the data in memory only.
	Journal string
	// Listen is the loopback address, "127.0.0.1:0" (any free port, [::1] where there is no
	// IPv4) if empty.
	Listen string
}

// Redis is a running embedded Redis: miniredis behind a front that runs one
// command after the other and answers when the journal holds what it did.
//
// It has one database. Commands Ledgerfeed has no use for are refused: blocking
// ones, publish and subscribe, streams, and those whose outcome is random.
type Redis struct {
	listener net.Listener
	done     sync.WaitGroup

	mu       sync.Mutex // one command at a time; guards the rest
	mini     *miniredis.Miniredis
	journal  *journal // nil: memory only
	op       op       // what the running command has done so far
	sessions map[*session]struct{}
	closed   bool
}

// StartRedis replays the journal, starts the server and returns when it takes
// connections. Close it.
func StartRedis(o RedisOptions) (*Redis, error) {
	r, err := startRedis(o, compactAt)
	if err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	return r, nil
}

func startRedis(o RedisOptions, compactAt int64) (*Redis, error) {
	host, port, err := loopback(o.Listen)
	if err != nil {
		return nil, err
	}
	r := &Redis{mini: miniredis.NewMiniRedis(), sessions: map[*session]struct{}{}}
	// Starts miniredis without a listener of its own, which would be a way
	// around the journal.
	conn, err := r.mini.Dial()
	if err != nil {
		return nil, err
	}
	conn.Close()
	r.mini.SetTime(time.Now())
	r.mini.ClockTTL(true)

	if r.listener, err = listen(host, port); err != nil {
		r.mini.Close()
		return nil, err
	}
	if o.Journal != "" {
		if r.journal, err = openJournal(o.Journal, r, compactAt); err != nil {
			r.listener.Close()
			r.mini.Close()
			return nil, err
		}
	}
	r.mini.Server().SetPreHook(r.before)
	r.done.Add(1)
	go r.serve()
	return r, nil
}

// URL is where clients connect to.
func (r *Redis) URL() string { return "redis://" + r.listener.Addr().String() + "/0" }

// Close stops the server and returns when everything that was answered is on
// disk. Closing twice is safe.
func (r *Redis) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	for s := range r.sessions {
		s.conn.Close()
	}
	r.mu.Unlock()

	r.listener.Close()
	r.done.Wait()
	r.mini.Close()
	if r.journal != nil {
		r.journal.close()
	}
}

// Err is why the journal could not be written; the server answers nothing after
// that. Nil if all is well.
func (r *Redis) Err() error {
	if r.journal == nil {
		return nil
	}
	return r.journal.wait(0)
}

func (r *Redis) serve() {
	defer r.done.Done()
	for {
		conn, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: those open may still end.
			<-time.After(10 * time.Millisecond)
			continue
		}
		if s, ok := r.newSession(conn); ok {
			r.done.Add(1)
			go s.serve()
		}
	}
}

func (r *Redis) newSession(conn net.Conn) (*session, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		conn.Close()
		return nil, false
	}
	s := newSession(r, conn)
	r.sessions[s] = struct{}{}
	return s, true
}

func (r *Redis) forget(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
}

// run executes f, one command or one transaction, and returns what to wait for
// before its reply may be sent. Replies of commands that change nothing wait
// too: they may show what another command did a moment ago.
func (r *Redis) run(f func()) (seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Time stands still during a command, so that replaying it at that time
	// does the same.
	r.op = op{at: time.Now()}
	r.mini.SetTime(r.op.at)
	f()
	if r.journal == nil {
		return 0
	}
	return r.journal.append(r.op)
}

// wait returns when the journal holds seq.
func (r *Redis) wait(seq uint64) error {
	if r.journal == nil {
		return nil
	}
	return r.journal.wait(seq)
}

// before is miniredis' hook: it sees every command, also those a Lua script
// calls, and notes the ones that change data. A script is so journaled as what
// it did, not as what it was: its outcome may depend on keys that are not in
// the journal.
func (r *Redis) before(c *server.Peer, name string, args ...string) (refuse bool) {
	kind := kindOf(name, args)
	if kind == refused {
		c.WriteError(refusal(name, args))
		return true
	}
	if kind == write && r.journal != nil && !ephemeral(name, args) {
		r.op.commands = append(r.op.commands, append([]string{name}, args...))
	}
	return false
}
