package devserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/alicebob/miniredis/v2/server"
)

// session is one client's connection.
type session struct {
	redis *Redis
	conn  net.Conn
	in    *bufio.Reader
	peer  *server.Peer // miniredis' state of the connection; writes to out
	out   bytes.Buffer // replies not sent yet

	queue    [][]string // commands of an open transaction
	inTx     bool
	dirty    bool // a command could not be queued: EXEC must not run
	watching bool
}

func newSession(r *Redis, conn net.Conn) *session {
	s := &session{redis: r, conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	s.peer = server.NewPeer(bufio.NewWriter(&s.out))
	return s
}

// maxUnsent bounds the replies of a pipeline that wait for its end.
const maxUnsent = 1 << 20

func (s *session) serve() {
	defer s.redis.done.Done()
	defer s.redis.forget(s)
	defer s.conn.Close()
	for {
		args, err := readCommand(s.in)
		if errors.Is(err, errProtocol) {
			fmt.Fprintf(s.conn, "-ERR Protocol error: %v\r\n", err)
			return
		}
		if err != nil {
			return
		}
		if len(args) == 0 {
			continue
		}
		seq := s.redis.run(func() { s.do(args) })
		// The commands of a pipeline share one sync.
		if s.in.Buffered() > 0 && s.out.Len() < maxUnsent {
			continue
		}
		// No reply before the journal has it, and none after it has failed.
		if err := s.redis.wait(seq); err != nil {
			return
		}
		if _, err := s.out.WriteTo(s.conn); err != nil || s.peer.Closed() {
			return
		}
	}
}

// do runs one command. Transactions are kept here: in miniredis the commands of
// a transaction pass the hook when they are queued, not when they run.
func (s *session) do(args []string) {
	defer s.peer.Flush()
	name := strings.ToUpper(args[0])
	switch {
	case name == "MULTI" && len(args) == 1:
		if s.inTx {
			s.peer.WriteError("ERR MULTI calls can not be nested")
			return
		}
		s.inTx, s.dirty, s.queue = true, false, nil
		s.peer.WriteOK()
	case name == "EXEC" && len(args) == 1:
		s.exec()
	case name == "DISCARD" && len(args) == 1:
		if !s.inTx {
			s.peer.WriteError("ERR DISCARD without MULTI")
			return
		}
		s.endTx()
		s.peer.WriteOK()
	case s.inTx:
		s.enqueue(name, args)
	default:
		if name == "WATCH" {
			s.watching = true
		}
		s.dispatch(args)
	}
}

func (s *session) dispatch(args []string) { s.redis.mini.Server().Dispatch(s.peer, args) }

func (s *session) enqueue(name string, args []string) {
	switch {
	case name == "WATCH":
		s.peer.WriteError("ERR WATCH inside MULTI is not allowed")
	case kindOf(name, args[1:]) == refused:
		s.dirty = true
		s.peer.WriteError(refusal(name, args[1:]))
	case !s.redis.mini.Server().IsRegisteredCommand(name):
		s.dirty = true
		s.peer.WriteError(fmt.Sprintf("ERR unknown command '%s'", args[0]))
	default:
		s.queue = append(s.queue, args)
		s.peer.WriteInline("QUEUED")
	}
}

func (s *session) exec() {
	switch {
	case !s.inTx:
		s.peer.WriteError("ERR EXEC without MULTI")
		return
	case s.dirty:
		s.endTx()
		s.peer.WriteError("EXECABORT Transaction discarded because of previous errors.")
		return
	}
	queue := s.queue
	if untouched := s.endTx(); !untouched {
		s.peer.WriteLen(-1)
		return
	}
	s.peer.WriteLen(len(queue))
	for _, args := range queue {
		s.dispatch(args)
	}
}

// endTx closes the transaction and the watch, and reports whether the watched
// keys are as they were. miniredis knows: it is asked by an empty transaction.
func (s *session) endTx() (untouched bool) {
	watching := s.watching
	s.inTx, s.dirty, s.queue, s.watching = false, false, nil, false
	if !watching {
		return true
	}
	s.peer.Flush()
	mark := s.out.Len()
	s.dispatch([]string{"MULTI"})
	s.dispatch([]string{"EXEC"})
	s.peer.Flush()
	untouched = bytes.HasSuffix(s.out.Bytes()[mark:], []byte("*0\r\n"))
	s.out.Truncate(mark)
	return untouched
}

var errProtocol = errors.New("invalid request")

const (
	maxArgs = 1 << 20
	maxArg  = 64 << 20
)

// readCommand reads an array of bulk strings, the one form clients send.
func readCommand(in *bufio.Reader) ([]string, error) {
	n, err := readLength(in, '*', maxArgs)
	if err != nil {
		return nil, err
	}
	args := make([]string, 0, min(n, 64))
	for range n {
		size, err := readLength(in, '$', maxArg)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, size+2)
		if _, err := io.ReadFull(in, buf); err != nil {
			return nil, err
		}
		if buf[size] != '\r' || buf[size+1] != '\n' {
			return nil, errProtocol
		}
		args = append(args, string(buf[:size]))
	}
	return args, nil
}

func readLength(in *bufio.Reader, sign byte, most int) (int, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return 0, errProtocol
	}
	if err != nil {
		return 0, err
	}
	if len(line) < 4 || line[0] != sign || line[len(line)-2] != '\r' {
		return 0, errProtocol
	}
	n, err := strconv.Atoi(string(line[1 : len(line)-2]))
	if err != nil || n < 0 || n > most {
		return 0, errProtocol
	}
	return n, nil
}
