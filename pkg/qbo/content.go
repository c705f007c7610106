package qbo

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// ContentHash identifies what a document says: 64 bits as 11 characters of
// base64url, "" for an empty document. Two states of one record may share a
// [Version]: a balance moves LastUpdatedTime but not SyncToken, so that several
// states fall into one second.
//
// The order of members, spacing, escapes and the form of a number (1.50 or 1.5) do
// not count. Left out are the top-level members MetaData (the version has its
// times, and answers show them in different zones), domain, sparse and status; of a
// document that only wraps another (RecurringTransaction) those of the inner one.
// What is not one JSON value is hashed byte by byte. The hash is no protection
// against somebody who makes two documents collide on purpose.
func ContentHash(document []byte) string {
	if len(document) == 0 {
		return ""
	}
	sum := contentSum(document)
	if name, inner, ok := unwrap(document); ok {
		sum = combine(xxhash.Sum64(unquote(name)), contentSum(inner))
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

func contentSum(document []byte) uint64 {
	h := contentHasher{scanner{raw: document}}
	sum, ok := h.value(true, 0)
	if h.space(); !ok || !h.over() {
		sum = xxhash.Sum64(document)
	}
	return sum
}

// maxDepth bounds the stack.
const maxDepth = 10_000

type contentHasher struct{ scanner }

// value hashes the next value. Members of an object are added up, so that their
// order does not count; elements of an array are chained.
func (h *contentHasher) value(top bool, depth int) (sum uint64, ok bool) {
	h.space()
	if h.over() || depth == maxDepth {
		return 0, false
	}
	switch h.next() {
	case '{':
		return h.object(top, depth)
	case '[':
		return h.array(depth)
	case '"':
		text, ok := h.text()
		if !ok {
			return 0, false
		}
		return xxhash.Sum64(unquote(text)), true
	default:
		word := h.word()
		if len(word) == 0 {
			return 0, false
		}
		return scalar(word), true
	}
}

func (h *contentHasher) object(top bool, depth int) (sum uint64, ok bool) {
	sum = '{'
	for first := true; ; first = false {
		if more, ok := h.more('}', first); !more {
			return combine('{', sum), ok
		}
		name, ok := h.name()
		if !ok {
			return 0, false
		}
		if top && leftOut(name) {
			if _, ok := h.scanner.value(); !ok {
				return 0, false
			}
			continue
		}
		v, ok := h.value(false, depth+1)
		if !ok {
			return 0, false
		}
		sum += combine(xxhash.Sum64(unquote(name)), v)
	}
}

func (h *contentHasher) array(depth int) (sum uint64, ok bool) {
	sum = '['
	for first := true; ; first = false {
		if more, ok := h.more(']', first); !more {
			return combine('[', sum), ok
		}
		v, ok := h.value(false, depth+1)
		if !ok {
			return 0, false
		}
		sum = combine(sum, v)
	}
}

func leftOut(name []byte) bool {
	switch string(name) {
	case `"MetaData"`, `"domain"`, `"sparse"`, `"status"`:
		return true
	}
	return false
}

func scalar(word []byte) uint64 {
	if c := word[0]; c == '-' || c >= '0' && c <= '9' {
		if n, err := strconv.ParseFloat(string(word), 64); err == nil {
			return combine('0', math.Float64bits(n))
		}
	}
	return xxhash.Sum64(word) + 1
}

func combine(a, b uint64) uint64 {
	var pair [16]byte
	binary.LittleEndian.PutUint64(pair[:8], a)
	binary.LittleEndian.PutUint64(pair[8:], b)
	return xxhash.Sum64(pair[:])
}
