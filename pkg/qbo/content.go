package qbo

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
)

// ContentHash identifies what a document says: 64 bits as 11 characters of
// base64url, "" for an empty document. Two states of one record may share a
// [Version]: a balance moves LastUpdatedTime but not SyncToken, so that several
// states fall into one second.
//
// The order of members, spacing, escapes and the form of a number (1.50 or 1.5) do
// not count. Left out are the top-level members MetaData (the version has its
// times, and answers show them in different zones), domain, sparse and status.
// What is not one JSON value is hashed byte by byte. The hash is no protection
// against somebody who makes two documents collide on purpose.
func ContentHash(document []byte) string {
	if len(document) == 0 {
		return ""
	}
	h := contentHasher{walk(document)}
	sum, err := h.value(true)
	if err != nil || h.decoder.PeekKind() != 0 {
		sum = xxhash.Sum64(document)
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

type contentHasher struct{ decoder *jsontext.Decoder }

// value hashes the next value. Members of an object are added up, so that their
// order does not count; elements of an array are chained.
func (h contentHasher) value(top bool) (uint64, error) {
	switch kind := h.decoder.PeekKind(); kind {
	case '{', '[':
		if _, err := h.decoder.ReadToken(); err != nil {
			return 0, err
		}
		sum, err := h.members(kind, top)
		if err != nil {
			return 0, err
		}
		_, err = h.decoder.ReadToken()
		return sum, err
	default:
		raw, err := h.decoder.ReadValue()
		return scalar(kind, raw), err
	}
}

func (h contentHasher) members(kind jsontext.Kind, top bool) (sum uint64, err error) {
	sum = uint64(kind)
	for next := h.decoder.PeekKind(); next != '}' && next != ']'; next = h.decoder.PeekKind() {
		if kind == '[' {
			v, err := h.value(false)
			if err != nil {
				return 0, err
			}
			sum = combine(sum, v)
			continue
		}
		name, err := h.decoder.ReadValue()
		if err != nil {
			return 0, err
		}
		if top && leftOut(name) {
			if err := h.decoder.SkipValue(); err != nil {
				return 0, err
			}
			continue
		}
		key := scalar('"', name)
		v, err := h.value(false)
		if err != nil {
			return 0, err
		}
		sum += combine(key, v)
	}
	return combine(uint64(kind), sum), nil
}

func leftOut(name []byte) bool {
	switch string(name) {
	case `"MetaData"`, `"domain"`, `"sparse"`, `"status"`:
		return true
	}
	return false
}

func scalar(kind jsontext.Kind, raw []byte) uint64 {
	switch {
	case kind == '"' && len(raw) >= 2:
		return xxhash.Sum64(unquote(raw))
	case kind == '0':
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil {
			return combine('0', math.Float64bits(n))
		}
	}
	return xxhash.Sum64(raw) + 1
}

func combine(a, b uint64) uint64 {
	var pair [16]byte
	binary.LittleEndian.PutUint64(pair[:8], a)
	binary.LittleEndian.PutUint64(pair[8:], b)
	return xxhash.Sum64(pair[:])
}
