package postgres

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// sanitized returns a document with U+FFFD in place of what jsonb cannot hold: \u0000, one
// half of a surrogate pair, and bytes that are no UTF-8. A record is not left out for one
// character. The same document becomes the same text each time.
func sanitized(document []byte) (text []byte, changed bool) {
	rest := document
	if !utf8.Valid(rest) {
		rest = bytes.ToValidUTF8(rest, []byte("\uFFFD"))
		changed = true
	}
	var b []byte // what came before rest, once something of it was replaced
	whole := rest
	for at := bytes.IndexByte(rest, '\\'); at >= 0; at = bytes.IndexByte(rest, '\\') {
		n, ok := escape(rest[at:])
		if !ok && b == nil {
			b = append(make([]byte, 0, len(whole)), whole[:len(whole)-len(rest)]...)
		}
		switch {
		case !ok:
			b = append(append(b, rest[:at]...), `\ufffd`...)
		case b != nil:
			b = append(b, rest[:at+n]...)
		}
		rest = rest[at+n:]
	}
	if b == nil {
		return whole, changed
	}
	return append(b, rest...), true
}

// escape is the length of the escape that JSON begins with, and whether jsonb takes it.
func escape(json []byte) (n int, ok bool) {
	const unit = len(`\u0000`)
	first, is := codeUnit(json)
	if !is {
		return min(2, len(json)), true
	}
	if !utf16.IsSurrogate(first) {
		return unit, first != 0
	}
	second, is := codeUnit(json[unit:])
	if is && utf16.DecodeRune(first, second) != utf8.RuneError {
		return 2 * unit, true
	}
	return unit, false
}

// codeUnit reads \uXXXX.
func codeUnit(json []byte) (rune, bool) {
	if len(json) < 6 || json[0] != '\\' || json[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(json[2:6]), 16, 16)
	return rune(n), err == nil
}

// plain is a text that PostgreSQL can hold.
func plain(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
