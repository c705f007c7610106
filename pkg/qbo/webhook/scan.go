package webhook

import (
	"fmt"
	"unicode/utf8"
)

// scanner reads JSON once, from left to right, and checks its grammar on the
// way. After an error it stands at the end, so that every loop over it ends, and
// returns empty keys and nulls. It never recurses.
//
// The libraries either recurse, which a deep body turns into a crash, or end at
// some depth (encoding/json at 10,000), and what stands beside the deep value
// would be lost with it.
type scanner struct {
	text  []byte
	at    int
	first bool // nothing of the innermost open array or object was read yet
	plain bool // the last string is ASCII without escapes
	err   error
}

// syntaxError says where the text stops being JSON.
type syntaxError struct {
	offset int
	end    bool
}

func (e *syntaxError) Error() string {
	if e.end {
		return fmt.Sprintf("it ends too early, after %d bytes", e.offset)
	}
	return fmt.Sprintf("unexpected character after %d bytes", e.offset)
}

func (s *scanner) fail() {
	if s.err == nil {
		s.err = &syntaxError{offset: s.at, end: s.at >= len(s.text)}
	}
	s.at = len(s.text)
}

// peek skips white space and returns the byte there, 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.text) {
		c := s.text[s.at]
		if c > ' ' || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c
		}
		s.at++
	}
	return 0
}

// end checks that nothing is left.
func (s *scanner) end() {
	if s.peek(); s.at < len(s.text) {
		s.fail()
	}
}

// open enters the array or object at hand.
func (s *scanner) open() {
	s.at++
	s.first = true
}

// more steps to the next element of the array or object that ends with closing,
// or out of it.
func (s *scanner) more(closing byte) bool {
	c := s.peek()
	first := s.first
	s.first = false
	switch {
	case c == closing:
		s.at++
		return false
	case first:
		return true
	case c != ',':
		s.fail()
		return false
	}
	s.at++
	return true
}

// member reads a key and its value.
func (s *scanner) member() (key, value) {
	name := s.skipKey()
	plain := s.plain
	v := s.value()
	switch {
	case s.err != nil:
		return nil, v
	case plain:
		return key(name[1 : len(name)-1]), v
	}
	return key(name.decoded()), v
}

// skipKey reads a key and the colon.
func (s *scanner) skipKey() value {
	if s.peek() != '"' {
		s.fail()
		return nil
	}
	start := s.at
	s.skipString()
	end := s.at
	if s.peek() == ':' {
		s.at++
	} else {
		s.fail()
	}
	return value(s.text[start:end])
}

// value reads one value.
func (s *scanner) value() value {
	c := s.peek()
	start := s.at
	if c == '{' || c == '[' {
		s.skipNested()
	} else {
		s.skipScalar(c)
	}
	if s.err != nil {
		return value("null")
	}
	return value(s.text[start:s.at])
}

// skipNested reads an array or object to its end.
func (s *scanner) skipNested() {
	var room [64]byte
	open := append(room[:0], s.enter())
	for len(open) > 0 && s.err == nil {
		closing := open[len(open)-1]
		if !s.more(closing) {
			open = open[:len(open)-1]
			continue
		}
		if closing == '}' {
			s.skipKey()
		}
		if c := s.peek(); c == '{' || c == '[' {
			open = append(open, s.enter())
		} else {
			s.skipScalar(c)
		}
	}
}

// enter opens what begins here and returns the byte that ends it.
func (s *scanner) enter() byte {
	c := s.text[s.at]
	s.open()
	return c + 2 // '[' and ']', '{' and '}' are two apart
}

func (s *scanner) skipScalar(c byte) {
	switch {
	case c == '"':
		s.skipString()
	case c == '-' || c >= '0' && c <= '9':
		s.skipNumber()
	case c == 't':
		s.skipWord("true")
	case c == 'f':
		s.skipWord("false")
	case c == 'n':
		s.skipWord("null")
	default:
		s.fail()
	}
}

func (s *scanner) skipWord(word string) {
	for i := range len(word) {
		if s.at >= len(s.text) || s.text[s.at] != word[i] {
			s.fail()
			return
		}
		s.at++
	}
}

// skipString reads a string and notes whether it is plain.
func (s *scanner) skipString() {
	s.plain = true
	for i := s.at + 1; i < len(s.text); i++ {
		c := s.text[i]
		if !special[c] {
			continue
		}
		s.at = i
		switch {
		case c == '"':
			s.at++
			return
		case c >= utf8.RuneSelf:
			s.plain = false
			continue
		case c != '\\':
			s.fail()
			return
		}
		s.plain = false
		if i = s.skipEscape(); s.err != nil {
			return
		}
	}
	s.at = len(s.text)
	s.fail()
}

// special are the bytes of a string that are not just passed over.
var special = func() (special [256]bool) {
	for c := range special {
		special[c] = c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf
	}
	return special
}()

// skipEscape returns where the escape at hand ends.
func (s *scanner) skipEscape() (last int) {
	s.at++
	if s.at >= len(s.text) {
		s.fail()
		return s.at
	}
	switch s.text[s.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return s.at
	case 'u':
		for range 4 {
			if s.at++; s.at >= len(s.text) || !isHex(s.text[s.at]) {
				s.fail()
				return s.at
			}
		}
		return s.at
	}
	s.fail()
	return s.at
}

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) skipNumber() {
	s.skipByte('-')
	if !s.skipByte('0') {
		s.skipDigits()
	}
	if s.skipByte('.') {
		s.skipDigits()
	}
	if s.skipByte('e') || s.skipByte('E') {
		if !s.skipByte('-') {
			s.skipByte('+')
		}
		s.skipDigits()
	}
}

func (s *scanner) skipByte(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// skipDigits reads one digit or more.
func (s *scanner) skipDigits() {
	start := s.at
	for s.at < len(s.text) && isDigit(s.text[s.at]) {
		s.at++
	}
	if s.at == start {
		s.fail()
	}
}
