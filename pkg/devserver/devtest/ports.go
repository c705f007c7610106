package devtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// firstPort to lastPort are below those that systems hand out to clients: a
// server that is down for a while must find its port free again.
const firstPort, lastPort = 15000, 32000

// claims are UDP sockets, bound to the TCP ports that this process has handed out. They
// keep the tests of other processes, which go test runs at the same time, from taking a
// port between its choice and the start of its server.
var claims struct {
	sync.Mutex
	held []net.PacketConn
}

// FreePort is a port on 127.0.0.1 that no other test is given, in any process.
func FreePort(t testing.TB) int {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	return ports[0]
}

// onFreePort calls f with a free port, again with another one if a program that is no test
// took it before f could.
func onFreePort(f func(port int) error) error {
	return onFreePorts(1, func(ports []int) error { return f(ports[0]) })
}

// onFreePorts is onFreePort for several.
func onFreePorts(n int, f func(ports []int) error) error {
	var err error
	for range 5 {
		var ports []int
		if ports, err = freePorts(n); err != nil {
			return err
		}
		if err = f(ports); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

func freePorts(n int) (ports []int, err error) {
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		if port := firstPort + rand.IntN(lastPort-firstPort); claim(port) {
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free port")
}

// claim reports whether the port is free and now this process's.
func claim(port int) bool {
	var lc net.ListenConfig
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	udp, err := lc.ListenPacket(context.Background(), "udp", address)
	if err != nil {
		return false
	}
	tcp, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		_ = udp.Close() // the answer is no in any case
		return false
	}
	tcp.Close()
	claims.Lock()
	defer claims.Unlock()
	claims.held = append(claims.held, udp)
	return true
}
