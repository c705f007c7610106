package envelope

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
)

// Partitions is how many partitions the realms are spread over. It is part of
// every subject, so it never changes.
const Partitions = 64

// Partition is the partition of a realm, 0 to Partitions-1.
func Partition(realm string) int {
	return int(crc32.ChecksumIEEE([]byte(realm)) % Partitions)
}

// RealmToken is a realm id as one token of a NATS subject. Intuit's ids are
// digits and stay as they are. Others come from a body that verifies but says
// odd things: every string is possible, so what is not a letter, a digit or a
// hyphen makes the whole id hexadecimal behind an underscore, and an overlong
// one becomes its hash. Different ids have different tokens; the token cannot
// be turned back, the id is in the message.
func RealmToken(realm string) string {
	switch {
	case plain(realm):
		return realm
	case len(realm) <= maxPlain:
		return "_" + hex.EncodeToString([]byte(realm))
	default:
		sum := sha256.Sum256([]byte(realm))
		return "_sha256-" + hex.EncodeToString(sum[:16])
	}
}

const maxPlain = 64

func plain(s string) bool {
	if s == "" || len(s) > maxPlain {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return true
}
