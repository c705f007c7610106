package webhook

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// texts keeps the ids and names of a body. They share a few buffers, so that an
// event costs no allocation of its own and does not hold the body in memory.
type texts struct{ buffer strings.Builder }

const maxBuffer = 4 << 10

// reserve makes room for n bytes, within bounds.
func (t *texts) reserve(n int) { t.buffer.Grow(min(n, maxBuffer)) }

// keep returns b as a string.
func (t *texts) keep(b []byte) string {
	if t.buffer.Cap()-t.buffer.Len() < len(b) {
		// Not grown: that would copy what the strings made so far still hold.
		t.buffer = strings.Builder{}
		t.buffer.Grow(max(len(b), maxBuffer))
	}
	start := t.buffer.Len()
	t.buffer.Write(b)
	return t.buffer.String()[start:]
}

// maxText bounds ids and names: they become parts of keys and subjects.
// Intuit's are UUIDs and numbers.
const maxText = 128

// problem says why a text may not be used as an id or a name, or "". Databases
// do not take NUL, logs and subjects no line breaks, and the replacement
// character stands for bytes that were lost.
func problem(text string) string {
	if len(text) > maxText {
		return "is longer than 128 bytes"
	}
	if !isPlain(text) && strings.ContainsFunc(text, unprintable) {
		return "has characters that cannot be printed"
	}
	return ""
}

// isPlain says whether text is printable ASCII, as all of Intuit's is.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func unprintable(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }
