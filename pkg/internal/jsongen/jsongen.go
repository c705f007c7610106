// Package jsongen writes JSON for property tests in all the ways the grammar
// leaves open: white space, escapes, the order of keys, keys given twice.
//
// The same random source makes the same text, and what is written always means
// what was asked for. It is only for tests, and reads no JSON.
package jsongen

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Writer writes JSON with choices made by R.
type Writer struct{ R *rand.Rand }

// Member is one key of an object and the JSON of its value.
type Member struct{ Key, JSON string }

// Space is white space, most of the time none.
func (w Writer) Space() string {
	if w.R.IntN(4) > 0 {
		return ""
	}
	return pick(w, " ", "\n", "\t", "\r\n", "    ")
}

// String is s as JSON, with some of its characters escaped.
func (w Writer) String(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	often := w.R.IntN(3) == 0
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < ' ' || often && w.R.IntN(3) == 0:
			b.WriteString(escape(c, pick(w, `\u%04x`, `\u%04X`)))
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func escape(c rune, format string) string {
	if high, low := utf16.EncodeRune(c); high != '\uFFFD' {
		return fmt.Sprintf(format+format, high, low)
	}
	return fmt.Sprintf(format, c)
}

// Object is members in any order.
func (w Writer) Object(members ...Member) string {
	w.R.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	var b strings.Builder
	b.WriteString("{" + w.Space())
	for i, m := range members {
		if i > 0 {
			b.WriteString("," + w.Space())
		}
		b.WriteString(w.String(m.Key) + w.Space() + ":" + w.Space() + m.JSON + w.Space())
	}
	b.WriteString("}")
	return b.String()
}

// Twice is members with some of them given twice, the value the same.
func (w Writer) Twice(members []Member) []Member {
	for _, m := range members {
		if w.R.IntN(12) == 0 {
			members = append(members, m)
		}
	}
	return members
}

// Array is items in their order.
func (w Writer) Array(items ...string) string {
	var b strings.Builder
	b.WriteString("[" + w.Space())
	for i, item := range items {
		if i > 0 {
			b.WriteString("," + w.Space())
		}
		b.WriteString(item + w.Space())
	}
	b.WriteString("]")
	return b.String()
}

// Any is some value, nested at most depth levels deep.
func (w Writer) Any(depth int) string {
	kinds := 6
	if depth > 0 {
		kinds = 9
	}
	switch w.R.IntN(kinds) {
	case 0:
		return pick(w, "null", "true", "false")
	case 1:
		return strconv.Itoa(w.R.IntN(2_000_000) - 1_000_000)
	case 2:
		return pick(w, "0", "-0", "1.50", "1e9", "-2.5E-3", "123456789012345678901234567890")
	case 3, 4:
		return w.String(w.Text())
	case 5:
		return pick(w, "[]", "{}", `""`)
	case 6, 7:
		members := make([]Member, w.R.IntN(4))
		for i := range members {
			members[i] = Member{w.Text(), w.Any(depth - 1)}
		}
		return w.Object(members...)
	}
	items := make([]string, w.R.IntN(4))
	for i := range items {
		items[i] = w.Any(depth - 1)
	}
	return w.Array(items...)
}

// Text is a short text that is hard on a reader of JSON.
func (w Writer) Text() string {
	return pick(w, "", "a", "id", "Type", "deletedId", `"`, `\`, `\"`, "}", "]", "{[", ",:", "é", "𝄞", "\x00", "\n", "eventnotification", " x ", "\u2028")
}

func pick[T any](w Writer, from ...T) T { return from[w.R.IntN(len(from))] }
