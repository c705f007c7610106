package webhook

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"
)

// value is one JSON value, without white space around it, as a scanner returned
// it without an error. It points into the body.
//
// encoding/json would keep the last of two equal keys and with it lose the
// events of the first, and an item of the wrong type would fail those beside it.
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
			s := scanner{text: v}
			for s.open(); s.more(']'); {
				if !yield(s.value()) {
					return
				}
			}
		default:
			yield(v)
		}
	}
}

// members yields the keys and values of an object, equal keys included; of any
// other value nothing.
func (v value) members() iter.Seq2[key, value] {
	return func(yield func(key, value) bool) {
		if v.kind() != '{' {
			return
		}
		s := scanner{text: v}
		for s.open(); s.more('}'); {
			if !yield(s.member()) {
				return
			}
		}
	}
}

// has says whether v is an object with that key, in any case.
func (v value) has(name string) bool {
	for k := range v.members() {
		if k.is(name) {
			return true
		}
	}
	return false
}

// scalar returns the text of a string, trimmed, or the digits of an integer as
// they stand; nothing for null. ok is false for anything else: an id that is a
// fraction or an object is no id.
func (v value) scalar() (text []byte, ok bool) {
	switch c := v.kind(); {
	case c == '"':
		return bytes.TrimSpace(v.text()), true
	case c == 'n':
		return nil, true
	case c == '-' || isDigit(c):
		return v, !bytes.ContainsAny(v, ".eE")
	}
	return nil, false
}

// text decodes a string. It may point into the body.
func (v value) text() []byte {
	inner := v[1 : len(v)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			return v.decoded()
		}
	}
	return inner
}

func (v value) decoded() []byte {
	var s string
	_ = json.Unmarshal(v, &s) // cannot fail on a string
	return []byte(s)
}

// key is the decoded key of an object.
type key []byte

// is says whether k is name, in any case.
func (k key) is(name string) bool {
	return len(k) == len(name) && (string(k) == name || strings.EqualFold(string(k), name))
}
