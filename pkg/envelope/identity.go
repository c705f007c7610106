package envelope

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// identity is what an id is the hash of: parts with their lengths, so that no
// two different lists of parts run together into the same bytes.
type identity []byte

func newIdentity(kind string) identity {
	return make(identity, 0, 160).text("ledgerfeed/1/" + kind)
}

func (i identity) bytes(b []byte) identity { return append(i.number(len(b)), b...) }

func (i identity) text(s string) identity { return append(i.number(len(s)), s...) }

func (i identity) number(n int) identity { return binary.BigEndian.AppendUint64(i, uint64(n)) }

func (i identity) time(t *timestamppb.Timestamp) identity {
	return i.number(int(t.GetSeconds())).number(int(t.GetNanos()))
}

// sum is 160 bits in lower-case base32: 32 characters without a separator,
// short enough for a header of every message and a log line.
func (i identity) sum() string {
	sum := sha256.Sum256(i)
	return encoding.EncodeToString(sum[:20])
}

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
