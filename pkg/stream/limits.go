package stream

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// The broker's words for the limits of an account or a server, see nats-server
// server/errors.json.
const (
	codeStreamLimit    jetstream.ErrorCode = 10027
	codeConsumerLimit  jetstream.ErrorCode = 10026
	codeAccountStorage jetstream.ErrorCode = 10002 // resource limits exceeded for account
)

// explainLimit adds to err what to do about the limit that the broker has named.
func explainLimit(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case codeStreamLimit:
		return fmt.Errorf("%w: raise the number of streams of the NATS account: Ledgerfeed has %d, one more with the sink nats", err, len(streams))
	case codeConsumerLimit:
		return fmt.Errorf("%w: raise the number of consumers of the NATS account: Ledgerfeed has %d, and two for each sink", err, Groups+2)
	case codeStorageExceeded, codeAccountStorage:
		return fmt.Errorf("%w: raise the storage of the NATS account or max_file_store of the servers, or lower nats.events_max_bytes, retry_max_bytes and dead_max_bytes", err)
	}
	return err
}
