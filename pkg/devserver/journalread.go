package devserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// replay runs what is in the file. A missing file is an empty one.
func replay(path string, r *Redis) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil
	}
	in := &frameReader{in: bufio.NewReaderSize(f, 1<<20), left: info.Size()}
	if err := in.version(); err != nil {
		return err
	}
	replayer := newSession(r, nil)
	for {
		payload, err := in.next()
		if err != nil {
			return err
		}
		if payload == nil {
			break
		}
		if err := replayer.replay(payload); err != nil {
			return fmt.Errorf("frame before byte %d: %w", in.at, err)
		}
	}
	// A command over both kinds of keys may have brought some along.
	for _, key := range r.mini.Keys() {
		if strings.HasPrefix(key, ephemeralPrefix) {
			r.mini.Del(key)
		}
	}
	return nil
}

type frameReader struct {
	in       *bufio.Reader
	at, left int64
}

func (r *frameReader) read(n int64) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r.in, b)
	r.at, r.left = r.at+n, r.left-n
	return b, err
}

func (r *frameReader) version() error {
	line, err := r.in.ReadSlice('\n')
	version, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), journalMagic)
	if err != nil || !ok {
		return errors.New("not a journal of the embedded Redis; move it away to start empty")
	}
	if version != journalVersion {
		return fmt.Errorf("has format version %s, this program writes %s; use the program that wrote it, or move it away to start empty", version, journalVersion)
	}
	r.at, r.left = int64(len(line)), r.left-int64(len(line))
	return nil
}

// next returns the payload of the next frame; nil at the end, where a frame that
// a crash tore counts as the end: nobody was answered for it.
func (r *frameReader) next() ([]byte, error) {
	if r.left < frameHeader {
		return nil, nil
	}
	start := r.at
	head, err := r.read(frameHeader)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(head[8:]) != checksum(head[:8]) {
		rest, err := io.ReadAll(r.in)
		if err != nil {
			return nil, err
		}
		// A file system may have made room that was never written.
		if len(bytes.Trim(append(head, rest...), "\x00")) == 0 {
			return nil, nil
		}
		return nil, corrupt(start)
	}
	size := int64(binary.LittleEndian.Uint32(head))
	if size > r.left {
		return nil, nil
	}
	payload, err := r.read(size)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(head[4:]) != checksum(payload) {
		if r.left == 0 {
			return nil, nil
		}
		return nil, corrupt(start)
	}
	return payload, nil
}

func corrupt(at int64) error {
	return fmt.Errorf("is damaged at byte %d, before its end; restore it from a copy, or move it away to start empty", at)
}

// replay runs the operations of one frame at the times they ran at.
func (s *session) replay(payload []byte) error {
	d := decoder{payload}
	for len(d.b) > 0 {
		at, n := d.varint(), d.uvarint()
		s.redis.mini.SetTime(time.Unix(0, at))
		for range n {
			args := make([]string, 0, 8)
			for range d.uvarint() {
				args = append(args, d.text())
			}
			if d.b == nil || len(args) == 0 {
				return errors.New("cannot be decoded")
			}
			s.dispatch(args)
			s.peer.Flush()
			s.out.Reset()
		}
	}
	return nil
}

// decoder reads what encode wrote; after an error b is nil and the rest is zero.
type decoder struct{ b []byte }

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	if v > uint64(len(d.b)) {
		d.b = nil
		return 0
	}
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if d.b == nil {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.b = nil
		return
	}
	d.b = d.b[n:]
}
