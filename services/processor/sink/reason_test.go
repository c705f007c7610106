package sink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

func TestReasonOf(t *testing.T) {
	for want, err := range map[string]error{
		"timeout":            context.DeadlineExceeded,
		"dns":                &net.DNSError{},
		"connection refused": &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"network":            io.ErrUnexpectedEOF, // a server that ended under a statement
		"SQLSTATE 53100":     sink.Because("SQLSTATE 53100", io.EOF),
		"other":              errors.New("no idea"),
	} {
		require.Equal(t, want, sink.ReasonOf(fmt.Errorf("write: %w", err)))
	}
}
