package ingress

import (
	"runtime/debug"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/memlimit"
)

// What a connection, and a request that waits for the broker, cost at most, as
// TestOverload_… measures them; see docs/webhooks.md, Limits.
const (
	costOfProgram    = 64 << 20
	costOfConnection = 20 << 10 // two buffers of net/http, the stack of a goroutine, the socket
	costOfTLS        = 32 << 10 // more for each connection: keys, records
	costOfRequest    = 24 << 10 // more for each that waits: headers, a deeper stack, envelopes, messages
	// copiesOfBody: as received, its texts as parsed, its envelopes encoded, and
	// once more while the buffer grows or in the client's buffer.
	copiesOfBody = 4
	// notCounted is what the runtime's limit leaves out: the program's code, and the
	// little by which the limit is passed before the collector is done.
	notCounted = 24 << 20
)

// MemoryBound is how much memory the program takes at most, in bytes.
func (c IngressConfig) MemoryBound() int64 {
	connection := int64(costOfConnection)
	if c.TLSCertFile != "" {
		connection += costOfTLS
	}
	return costOfProgram + int64(c.MaxConnections)*connection + int64(c.MaxInFlight)*costOfRequest + copiesOfBody*c.MaxInFlightBytes
}

// RuntimeLimit is the memory limit of the Go runtime that goes with the bound: GOMEMLIMIT,
// where a manifest sets it.
func (c IngressConfig) RuntimeLimit() int64 { return c.MemoryBound() - notCounted }

// gcPercent: what a request makes is garbage a moment later, of a heap that is
// small beside the bound. The usual 100 would collect a hundred times a second.
const gcPercent = 400

// limitMemory makes the collector work less while there is room, and keep to the bound, or
// to what the container may take if that is less. GOGC and GOMEMLIMIT, if set, say
// otherwise.
func (c IngressConfig) limitMemory(environ []string) *memlimit.Limit {
	bound := c.RuntimeLimit()
	limit := memlimit.Set(memlimit.Options{Default: bound, Most: bound, Off: config.Lookup(environ, memlimit.Environment) == "off"})
	if limit.Source() != memlimit.Environment {
		if before := debug.SetGCPercent(gcPercent); before != 100 {
			debug.SetGCPercent(before)
		}
	}
	return limit
}
