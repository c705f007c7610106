package stream

import (
	"github.com/nats-io/nats.go"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// headerTrace carries the W3C trace context for whoever reads the stream without
// reading envelopes. The server looks through the headers in any case, and makes
// nothing of this one unless the account has a destination for message traces
// (msg_trace in its configuration); then it reports what it does with a message
// whose trace is recorded. Lower case, as the W3C and the server's pages have it.
const headerTrace = "traceparent"

// traced is m in the trace of env.
func traced(m *nats.Msg, env *ledgerfeedv1.Envelope) *nats.Msg {
	if t := env.GetTraceparent(); t != "" {
		m.Header.Set(headerTrace, t)
	}
	return m
}
