package ingress

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// knownFor is how long an address is known after its last signed webhook.
	knownFor = 24 * time.Hour
	// knownAgain bounds how often that time is written: reading it is cheaper.
	knownAgain = time.Minute
	// maxKnown bounds the memory of the addresses; Intuit sends from far fewer.
	maxKnown = 4096
	// leastShare is what a stranger may hold however small the limits are.
	leastShare = 16
)

// peers bounds what strangers hold: addresses that have sent no signed webhook of late.
//
// One stranger may take a part of the connections, of the requests in hand and of the
// bytes of their bodies, and all strangers together twice that part. What is left is
// for those who have proved to hold a verifier token, and for the trusted proxies: many
// senders stand behind one address there. So no number of strangers keeps Intuit out,
// and a proxy that nobody listed is limited only until the first webhook has come
// through it.
type peers struct {
	trusted  []netip.Prefix
	one, all usage // the bounds of one stranger, and of all
	refusals *prometheus.CounterVec
	warned   throttle
	swept    throttle
	log      *zap.Logger

	// known are the addresses that sent a signed webhook, and when, in Unix seconds.
	// Requests of Intuit read it without a lock; a new address replaces the map.
	known atomic.Pointer[map[netip.Addr]*atomic.Int64]

	mu   sync.Mutex // guards what follows, and the replacing of known
	by   map[netip.Addr]*stranger
	held usage // by all strangers
}

// usage is what is held.
type usage struct {
	connections, requests int
	bytes                 int64
}

func (u usage) plus(v usage) usage {
	return usage{u.connections + v.connections, u.requests + v.requests, u.bytes + v.bytes}
}

func (u usage) minus(v usage) usage {
	return usage{u.connections - v.connections, u.requests - v.requests, u.bytes - v.bytes}
}

// within reports whether none of the bounds is exceeded.
func (u usage) within(bound usage) bool {
	return u.connections <= bound.connections && u.requests <= bound.requests && u.bytes <= bound.bytes
}

// kind names what it is of, for the metric.
func (u usage) kind() string {
	switch {
	case u.connections > 0:
		return "connections"
	case u.requests > 0:
		return "requests"
	default:
		return "bytes"
	}
}

// grant is whether something may be taken.
type grant int

const (
	granted  grant = iota
	ownFull        // the stranger has its share
	allAreIn       // all strangers together have theirs
)

// stranger is an address that has sent no signed webhook of late, and holds something.
type stranger struct {
	addr netip.Addr
	held usage
	free bool // known by now: what it holds does not count
}

func newPeers(c IngressConfig, connections int, m *metrics, log *zap.Logger) *peers {
	p := &peers{by: map[netip.Addr]*stranger{}, refusals: m.strangers, log: log}
	for _, cidr := range c.TrustedProxies {
		if prefix, err := netip.ParsePrefix(cidr); err == nil { // Validate has seen it
			p.trusted = append(p.trusted, prefix.Masked())
		}
	}
	p.one, p.all = c.bounds(connections, c.StrangerPercent), c.bounds(connections, min(100, 2*c.StrangerPercent))
	p.known.Store(&map[netip.Addr]*atomic.Int64{})
	return p
}

// bounds are that many percent of the limits.
func (c IngressConfig) bounds(connections, percent int) usage {
	of := func(n int) int { return max(n*percent/100, min(n, leastShare)) }
	return usage{
		connections: of(connections), requests: of(c.MaxConnections),
		// One body fits in any case.
		bytes: max(c.MaxInFlightBytes/100*int64(percent), min(c.MaxInFlightBytes, c.MaxBody+1)),
	}
}

// address is the one that a peer is counted by. Who has one IPv6 address has its /64.
func address(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		network, err := ip.Prefix(64)
		if err == nil {
			return network.Addr()
		}
	}
	return ip
}

// addressOf is the address of a connection; the zero one if it has none.
func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(tcp.IP)
		return address(ip)
	}
	return netip.Addr{}
}

// limited reports whether an address is a stranger's.
func (p *peers) limited(addr netip.Addr, now time.Time) bool {
	for _, proxies := range p.trusted {
		if proxies.Contains(addr) {
			return false
		}
	}
	last := (*p.known.Load())[addr]
	return last == nil || now.Unix()-last.Load() > int64(knownFor/time.Second)
}

// take counts something as held by a stranger; nil is one that is not limited.
func (p *peers) take(addr netip.Addr, what usage, now time.Time) (*stranger, grant) {
	if !p.limited(addr, now) {
		return nil, granted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.by[addr]
	if s == nil {
		s = &stranger{addr: addr}
	}
	return s, p.addLocked(s, what)
}

// more is take for a stranger that holds something already.
func (p *peers) more(s *stranger, what usage) grant {
	if s == nil {
		return granted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addLocked(s, what)
}

func (p *peers) addLocked(s *stranger, what usage) grant {
	if s.free {
		return granted
	}
	own, all := s.held.plus(what), p.held.plus(what)
	switch {
	case !own.within(p.one):
		return ownFull
	case !all.within(p.all):
		return allAreIn
	}
	s.held, p.held, p.by[s.addr] = own, all, s
	return granted
}

// refused counts what was not granted to an address. It says once a minute whose share is
// used up: it may be a proxy that is not listed.
func (p *peers) refused(addr netip.Addr, what usage, why grant) {
	p.refusals.WithLabelValues(what.kind()).Inc()
	if why == ownFull && p.warned.pass(time.Now()) {
		p.log.Warn("address reached its share of connections, requests or bytes", telemetry.Address(addr.String()),
			telemetry.Reason("it sends no signed webhooks; if it is your proxy, list it in ingress.trusted_proxies"))
	}
}

// limits reports whether what s holds is counted.
func (p *peers) limits(s *stranger) bool {
	if s == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !s.free
}

// give is the end of what was taken; nil holds nothing.
func (p *peers) give(s *stranger, what usage) {
	if s == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.free {
		return
	}
	s.held, p.held = s.held.minus(what), p.held.minus(what)
	if s.held == (usage{}) {
		delete(p.by, s.addr)
	}
}

// signed makes an address known: a token has signed what it sent.
func (p *peers) signed(addr netip.Addr, now time.Time) {
	if last := (*p.known.Load())[addr]; last != nil {
		if now.Unix()-last.Load() >= int64(knownAgain/time.Second) {
			last.Store(now.Unix())
			p.forget(addr)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := *p.known.Load()
	if len(before) >= maxKnown && !p.swept.pass(now) {
		return
	}
	after := make(map[netip.Addr]*atomic.Int64, len(before)+1)
	for a, last := range before {
		if now.Unix()-last.Load() <= int64(knownFor/time.Second) {
			after[a] = last
		}
	}
	if len(after) < maxKnown {
		at := &atomic.Int64{}
		at.Store(now.Unix())
		after[addr] = at
		p.forgetLocked(addr)
	}
	p.known.Store(&after)
}

// forget ends the counting of what an address holds.
func (p *peers) forget(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(addr)
}

func (p *peers) forgetLocked(addr netip.Addr) {
	if s := p.by[addr]; s != nil {
		s.free = true
		p.held = p.held.minus(s.held)
		delete(p.by, addr)
	}
}

// hold is what one request holds: a place, and memory for its body. The zero value
// cannot reserve.
type hold struct {
	memory   *memory
	peers    *peers
	stranger *stranger // nil: not limited
	bytes    int64     // reserved
}

// reserve takes n bytes, or none and reports false.
func (h *hold) reserve(n int64) bool {
	if !h.memory.reserve(n) {
		return false
	}
	if why := h.peers.more(h.stranger, usage{bytes: n}); why != granted {
		h.peers.refused(h.stranger.addr, usage{bytes: n}, why)
		h.memory.release(n)
		return false
	}
	h.bytes += n
	return true
}

// release is the end of the request.
func (h *hold) release() {
	if h.bytes > 0 {
		h.memory.release(h.bytes)
	}
	h.peers.give(h.stranger, usage{requests: 1, bytes: h.bytes})
}
