package qbo

// scanner goes over JSON that was checked when it came: an answer is gone over several
// times, and a decoder takes many times as long. It is not strict, and stays within any
// bytes that it is given.
type scanner struct {
	raw []byte
	at  int // of the next byte
}

// next is the next byte; 0 at the end, which no JSON holds.
func (s *scanner) next() byte {
	if s.at < len(s.raw) {
		return s.raw[s.at]
	}
	return 0
}

// over reports whether nothing is left.
func (s *scanner) over() bool { return s.at >= len(s.raw) }

// more takes what stands before an element, or behind the last one.
func (s *scanner) more(end byte, first bool) (more, ok bool) {
	if first {
		s.at++ // the bracket
	}
	s.space()
	switch c := s.next(); {
	case c == 0:
		return false, false
	case c == end:
		s.at++
		return false, true
	case first:
		return true, true
	case c != ',':
		return false, false
	}
	s.at++
	return true, true
}

// text takes a string with its quotes.
func (s *scanner) text() (text []byte, ok bool) {
	s.space()
	if s.next() != '"' {
		return nil, false
	}
	// A loop: most strings are too short for bytes.IndexByte to be faster.
	for at := s.at + 1; at < len(s.raw); at++ {
		switch s.raw[at] {
		case '\\':
			at++
		case '"':
			text, s.at = s.raw[s.at:at+1], at+1
			return text, true
		}
	}
	return nil, false
}

// word takes a number, true, false or null.
func (s *scanner) word() (word []byte) {
	end := s.at
	for end < len(s.raw) && inWord(s.raw[end]) {
		end++
	}
	word, s.at = s.raw[s.at:end], end
	return word
}

func inWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '.' || c == '-' || c == '+' || c == 'E'
}

func (s *scanner) space() {
	for s.at < len(s.raw) && (s.raw[s.at] == ' ' || s.raw[s.at] == '\n' || s.raw[s.at] == '\t' || s.raw[s.at] == '\r') {
		s.at++
	}
}

// name takes the name of a member with its quotes, and the colon.
func (s *scanner) name() (name []byte, ok bool) {
	name, ok = s.text()
	if s.space(); !ok || s.next() != ':' {
		return nil, false
	}
	s.at++
	return name, true
}

// value takes any value.
func (s *scanner) value() (value []byte, ok bool) {
	s.space()
	start, depth := s.at, 0
	for s.at < len(s.raw) {
		switch s.raw[s.at] {
		case '"':
			if _, ok := s.text(); !ok {
				return nil, false
			}
		case '{', '[':
			s.at++
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return nil, false
			}
			s.at++
			depth--
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return nil, false
			}
			s.at++
			continue
		default:
			if len(s.word()) == 0 {
				return nil, false
			}
		}
		if depth == 0 {
			return s.raw[start:s.at:s.at], true
		}
	}
	return nil, false
}
