package qbo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// FuzzContentHash compares the hash of a document with one made by a decoder: sinks and
// Redis keep it, so it must not change.
func FuzzContentHash(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	for _, document := range []string{`{"a":"\\","b":"\"","c":"\u00e9"}`, `[1,-0,1e3,1e999,"",null,{}]`, "{\"\xff\":1}", ` [ ] `, `{"MetaData":{"status":1},"a":{"status":1}}`} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if want := referenceHash(document); want != "" {
			require.Equal(t, want, qbo.ContentHash(document))
		}
		qbo.ContentHash(append(document, '"'))
	})
}

// referenceHash is "" for what is not one JSON value, and for a document that wraps
// another, which is hashed by the inner one.
func referenceHash(document []byte) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(document, &members) == nil && len(members) == 1 {
		for _, inner := range members {
			if bytes.HasPrefix(inner, []byte("{")) && bytes.Contains(inner, []byte(`"Id"`)) {
				return ""
			}
		}
	}
	lenient := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	if !jsontext.Value(document).IsValid(lenient...) {
		return ""
	}
	h := reference{jsontext.NewDecoder(bytes.NewBuffer(document), lenient...)}
	sum, err := h.value(true)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

func unquoted(literal []byte) []byte {
	text, _ := jsontext.AppendUnquote(nil, literal) // the text is whole also after its only error
	return text
}

type reference struct{ decoder *jsontext.Decoder }

// value hashes the next value. Members of an object are added up, so that their
// order does not count; elements of an array are chained.
func (h reference) value(top bool) (uint64, error) {
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

func (h reference) members(kind jsontext.Kind, top bool) (sum uint64, err error) {
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
		if top && slices.Contains([]string{`"MetaData"`, `"domain"`, `"sparse"`, `"status"`}, string(name)) {
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

func scalar(kind jsontext.Kind, raw []byte) uint64 {
	switch {
	case kind == '"' && len(raw) >= 2:
		return xxhash.Sum64(unquoted(raw))
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
