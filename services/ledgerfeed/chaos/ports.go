package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// firstPort to lastPort are below those that systems hand out to clients: a
// server that is down for a while must find its port free again.
const firstPort, lastPort = 20000, 32000

// ports hands out free ports, each once.
type ports map[int]bool

func (p ports) next(ctx context.Context) (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if p[port] {
			continue
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", local(port))
		if err != nil {
			continue
		}
		l.Close()
		p[port] = true
		return port, nil
	}
	return 0, errors.New("no free port")
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
