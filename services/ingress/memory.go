package ingress

import (
	"math"
	"runtime/debug"
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
)

// MemoryBound is how much memory the program takes at most, in bytes.
func (c IngressConfig) MemoryBound() int64 {
	connection := int64(costOfConnection)
	if c.TLSCertFile != "" {
		connection += costOfTLS
	}
	return costOfProgram + int64(c.MaxConnections)*connection + int64(c.MaxInFlight)*costOfRequest + copiesOfBody*c.MaxInFlightBytes
}

// limitMemory makes the collector keep to the bound: by itself it lets the heap
// grow to twice of what is in use. GOMEMLIMIT, if set, says otherwise.
func (c IngressConfig) limitMemory() {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(c.MemoryBound())
	}
}
