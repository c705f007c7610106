package webhook

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"
)

// value is one JSON value, without white space around it, inside a body that
// json.Valid took; the methods rely on that. It points into the body.
//
// encoding/json alone would not do: it keeps the last of two equal keys (and
// with it loses the events of the first), and an item of the wrong type fails
// the items beside it.
type value []byte

// kind is the first byte: '{', '[', '"', a digit or '-', 't', 'f', 'n'.
func (v value) kind() byte { return v[0] }

// list yields the elements of an array; null is an empty array, and any other
// value an array of itself.
func (v value) list() iter.Seq[value] {
	return func(yield func(value) bool) {
		switch v.kind() {
		case 'n':
		case '[':
			rest := skipSpace(v[1:])
			for rest[0] != ']' {
				size := rest.size()
				if !yield(rest[:size]) {
					return
				}
				rest = skipComma(rest[size:])
			}
		default:
			yield(v)
		}
	}
}

// members yields the keys and values of an object, equal keys included; of any
// other value nothing.
func (v value) members() iter.Seq2[string, value] {
	return func(yield func(string, value) bool) {
		if v.kind() != '{' {
			return
		}
		rest := skipSpace(v[1:])
		for rest[0] != '}' {
			size := rest.size()
			key := rest[:size].text()
			rest = skipSpace(skipSpace(rest[size:])[1:]) // over the colon
			size = rest.size()
			if !yield(key, rest[:size]) {
				return
			}
			rest = skipComma(rest[size:])
		}
	}
}

// has says whether v is an object with that key, in any case.
func (v value) has(name string) bool {
	for key := range v.members() {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

// scalar returns the text of a string, trimmed, or the digits of an integer as
// they stand; "" for null. ok is false for anything else: an id that is a
// fraction or an object is no id.
func (v value) scalar() (text string, ok bool) {
	switch c := v.kind(); {
	case c == '"':
		return strings.TrimSpace(v.text()), true
	case c == 'n':
		return "", true
	case c == '-' || c >= '0' && c <= '9':
		return string(v), !bytes.ContainsAny(v, ".eE")
	}
	return "", false
}

// text decodes a string.
func (v value) text() string {
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(v, &s) // cannot fail on a string of a valid body
	return s
}

// size is the length of the value at the start of v. It does not recurse.
func (v value) size() int {
	switch v[0] {
	case '"':
		return v.stringSize()
	case '{', '[':
		depth := 0
		for i := 0; i < len(v); i++ {
			switch v[i] {
			case '"':
				i += v[i:].stringSize() - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	if end := bytes.IndexAny(v, ",]} \t\r\n"); end >= 0 {
		return end
	}
	return len(v)
}

func (v value) stringSize() int {
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(v)
}

func skipSpace(v value) value { return bytes.TrimLeft(v, " \t\r\n") }

func skipComma(v value) value {
	v = skipSpace(v)
	if v[0] == ',' {
		v = skipSpace(v[1:])
	}
	return v
}
