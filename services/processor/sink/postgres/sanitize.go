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
func sanitized(document []byte) (text string, changed bool) {
	clean := document
	if !utf8.Valid(clean) {
		clean = bytes.ToValidUTF8(clean, []byte("\uFFFD"))
		changed = true
	}
	if !bytes.Contains(clean, []byte(`\u`)) {
		return string(clean), changed
	}
	var b strings.Builder
	b.Grow(len(clean))
	for len(clean) > 0 {
		at := bytes.IndexByte(clean, '\\')
		if at < 0 {
			break
		}
		b.Write(clean[:at])
		clean = clean[at:]
		n, ok := escape(clean)
		if ok {
			b.Write(clean[:n])
		} else {
			b.WriteString(`\ufffd`)
			changed = true
		}
		clean = clean[n:]
	}
	b.Write(clean)
	return b.String(), changed
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
