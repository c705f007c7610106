package ingress

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// firstRead is what is reserved for a body before its length is known to be
// true: a claimed Content-Length costs the claimant nothing. It is as much as the
// HTTP server reads ahead, and doubles with what arrives.
const firstRead = 4 << 10

var (
	errTooLarge  = errors.New("body is too large")
	errNoMemory  = errors.New("too many bytes in flight")
	errBodyLate  = errors.New("body took too long")
	errBodyEnded = errors.New("body ended early")
)

// readBody reads the body as sent, within its time and size and what may be reserved.
// The caller releases what it holds, also after an error.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time, h *hold) (body []byte, err error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	// The server sets another one for the next request. Until then, passing it
	// cancels the request's context, as a sender that hangs up does.
	if err := http.NewResponseController(w).SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	src := http.MaxBytesReader(w, r.Body, limit)
	size := int64(firstRead)
	if r.ContentLength >= 0 && r.ContentLength < firstRead {
		size = r.ContentLength + 1 // room to read the end
	}
	for {
		if !h.reserve(size - h.bytes) {
			return nil, errNoMemory
		}
		grown := make([]byte, len(body), size)
		copy(grown, body)
		body = grown
		for len(body) < cap(body) {
			n, err := src.Read(body[len(body):cap(body)])
			body = body[:len(body)+n]
			switch {
			case errors.Is(err, io.EOF):
				return body, nil
			case err != nil:
				return nil, readError(err)
			}
		}
		size = min(2*size, limit+1)
	}
}

func readError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodyLate
	default:
		return errors.Join(errBodyEnded, err)
	}
}

// memory bounds the bytes of all bodies in hand. The zero value holds nothing.
type memory struct {
	mu    sync.Mutex // guards what follows
	free  int64
	gauge interface{ Add(float64) }
}

// reserve takes n bytes, or none and reports false.
func (m *memory) reserve(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > m.free {
		return false
	}
	m.free -= n
	m.gauge.Add(float64(n))
	return true
}

func (m *memory) release(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free += n
	m.gauge.Add(-float64(n))
}
