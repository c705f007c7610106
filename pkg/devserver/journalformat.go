package devserver

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"time"
)

// The file is a first line with the format's version, then frames. A frame is
//
//	length of the payload   4 bytes, little endian
//	CRC-32C of the payload  4 bytes
//	CRC-32C of these eight  4 bytes
//	payload                 the operations of one sync
//
// and an operation is the time it ran at and the commands it consisted of. The
// length has a checksum of its own: with it a frame that ends behind the end of
// the file was torn by a crash, without it a flipped bit would look the same.
const (
	journalMagic   = "ledgerfeed redis journal "
	journalVersion = "1"
	frameHeader    = 12
)

// op is what one command, script or transaction did: all of it is replayed, or
// nothing.
type op struct {
	at       time.Time
	commands [][]string
}

func writeFrame(w io.Writer, payload []byte) (int64, error) {
	frame := make([]byte, frameHeader, frameHeader+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], checksum(payload))
	binary.LittleEndian.PutUint32(frame[8:], checksum(frame[:8]))
	n, err := w.Write(append(frame, payload...))
	return int64(n), err
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (o op) encode(b []byte) []byte {
	b = binary.AppendVarint(b, o.at.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(o.commands)))
	for _, args := range o.commands {
		b = binary.AppendUvarint(b, uint64(len(args)))
		for _, a := range args {
			b = binary.AppendUvarint(b, uint64(len(a)))
			b = append(b, a...)
		}
	}
	return b
}
