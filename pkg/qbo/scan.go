package qbo

import "bytes"

// scanner goes over JSON that was checked when it came: an answer is gone over several
// times, and a decoder takes many times as long. It is not strict, and stays within any
// bytes that it is given.
type scanner struct{ rest []byte }

// more takes what stands before an element, or behind the last one.
func (s *scanner) more(end byte, first bool) (more, ok bool) {
	if first {
		s.rest = s.rest[1:] // the bracket
	}
	if s.space(); len(s.rest) == 0 {
		return false, false
	}
	switch {
	case s.rest[0] == end:
		s.rest = s.rest[1:]
		return false, true
	case first:
		return true, true
	case s.rest[0] != ',':
		return false, false
	}
	s.rest = s.rest[1:]
	return true, true
}

// text takes a string with its quotes.
func (s *scanner) text() (text []byte, ok bool) {
	if s.space(); len(s.rest) == 0 || s.rest[0] != '"' {
		return nil, false
	}
	for at := 1; ; at++ {
		end := bytes.IndexByte(s.rest[at:], '"')
		if end < 0 {
			return nil, false
		}
		at += end
		escapes := 0
		for s.rest[at-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			text, s.rest = s.rest[:at+1], s.rest[at+1:]
			return text, true
		}
	}
}

// word takes a number, true, false or null.
func (s *scanner) word() (word []byte) {
	end := 0
	for end < len(s.rest) && inWord(s.rest[end]) {
		end++
	}
	word, s.rest = s.rest[:end], s.rest[end:]
	return word
}

func inWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '.' || c == '-' || c == '+' || c == 'E'
}

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

// name takes the name of a member with its quotes, and the colon.
func (s *scanner) name() (name []byte, ok bool) {
	name, ok = s.text()
	if s.space(); !ok || len(s.rest) == 0 || s.rest[0] != ':' {
		return nil, false
	}
	s.rest = s.rest[1:]
	return name, true
}

// value takes any value.
func (s *scanner) value() (value []byte, ok bool) {
	s.space()
	start, depth := s.rest, 0
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case '"':
			if _, ok := s.text(); !ok {
				return nil, false
			}
		case '{', '[':
			s.rest = s.rest[1:]
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return nil, false
			}
			s.rest = s.rest[1:]
			depth--
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return nil, false
			}
			s.rest = s.rest[1:]
			continue
		default:
			if len(s.word()) == 0 {
				return nil, false
			}
		}
		if depth == 0 {
			end := len(start) - len(s.rest)
			return start[:end:end], true
		}
	}
	return nil, false
}
