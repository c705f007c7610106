package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// Because gives an error a short name that fits the label of a metric, such as
// "SQLSTATE 25006" or "HTTP 503": ReasonOf reads it.
func Because(reason string, err error) error { return &reasonError{reason, err} }

type reasonError struct {
	reason string
	err    error
}

func (e *reasonError) Error() string { return e.err.Error() }
func (e *reasonError) Unwrap() error { return e.err }

// ReasonOf is the short name of what a write failed with. There are few: it may be the
// label of a metric.
func ReasonOf(err error) string {
	if named, ok := errors.AsType[*reasonError](err); ok {
		return named.reason
	}
	_, dns := errors.AsType[*net.DNSError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case dns:
		return "dns"
	case certificate || authority || alert:
		return "certificate"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case network, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "network"
	}
	return "other"
}
