package attack_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ledgerfeed/ledgerfeed/pkg/certificate/certificatetest"
)

// h2 is a hostile connection of HTTP/2.
type h2 struct {
	*http2.Framer
	conn *tls.Conn
	head []byte
}

func (s *stack) h2(addr string) (*h2, error) {
	raw, err := from(attacker)(s.Context(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // the attacker does not care
	if err := conn.HandshakeContext(s.Context()); err != nil {
		raw.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		conn.Close()
		return nil, err
	}
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/webhooks/production"}, {":authority", "x"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return nil, err
		}
	}
	h := &h2{Framer: http2.NewFramer(conn, conn), conn: conn, head: head.Bytes()}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // answers are not looked at
	return h, h.WriteSettings()
}

func (s *stack) http2Floods() {
	leaf := certificatetest.New(s.T).Leaf(time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
	s.run("tls", "ingress", nil, map[string]string{"INGRESS_TLS_CERT_FILE": leaf.CertFile, "INGRESS_TLS_KEY_FILE": leaf.KeyFile})
	s.ready("tls")
	addr := s.listen["tls"]
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}) //nolint:gosec // as above
		if err == nil {
			conn.Close()
		}
		require.Error(s, err, "an old version of TLS")
	}
	client := s.client(intuits)
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is our own
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	for what, flood := range map[string]func(*h2) error{
		"streams that are reset": func(h *h2) error {
			for id := uint32(1); ; id += 2 {
				if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.head, EndHeaders: true}); err != nil {
					return err
				}
				if err := h.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
					return err
				}
			}
		},
		"headers that do not end": func(h *h2) error {
			if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.head}); err != nil {
				return err
			}
			for {
				if err := h.WriteContinuation(1, false, bytes.Repeat([]byte{0x40, 1, 'x', 1, 'y'}, 1000)); err != nil {
					return err
				}
			}
		},
		"pings": func(h *h2) error {
			for {
				if err := h.WritePing(false, [8]byte{}); err != nil {
					return err
				}
			}
		},
		"settings": func(h *h2) error {
			for {
				if err := h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
					return err
				}
			}
		},
		"streams that stay open": func(h *h2) error {
			for id := uint32(1); ; id += 2 {
				if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.head, EndHeaders: true}); err != nil {
					return err
				}
			}
		},
	} {
		before := s.running["tls"].memory(s.T, "VmRSS")
		assaultTLS(s, addr, flood, func() {
			for range 20 {
				began := time.Now()
				require.Equal(s, 1, s.share(client, "https://"+addr+"/webhooks/production", 1), what)
				require.Less(s, time.Since(began), intuitsPatience, what)
				<-time.After(50 * time.Millisecond)
			}
		})
		after := s.running["tls"].memory(s.T, "VmRSS")
		require.Less(s, after-before, int64(200<<20), "%s: memory", what)
	}
}

// assaultTLS floods on two connections at a time.
func assaultTLS(s *stack, addr string, flood func(*h2) error, run func()) {
	assault(s.Context(), addr, []string{attacker}, 2, func(first net.Conn) error {
		first.Close() // the flood dials for itself
		h, err := s.h2(addr)
		if err != nil {
			return err
		}
		defer h.conn.Close()
		ended := time.AfterFunc(2*time.Second, func() { h.conn.Close() })
		defer ended.Stop()
		return flood(h)
	}, run)
}
