package qbosim

import "strings"

type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a keyword or a field
	tokenText             // 'quoted'; its text is unescaped
	tokenNumber           // unquoted
	tokenSign             // = < > <= >= ( ) , *
)

type token struct {
	kind tokenKind
	text string
	at   int // column, from 1
}

// is compares keywords and signs; keywords are case insensitive.
func (t token) is(text string) bool {
	return (t.kind == tokenWord || t.kind == tokenSign) && strings.EqualFold(t.text, text)
}

// tokenize splits a statement up. The last token is tokenEnd.
func tokenize(statement string) ([]token, *fault) {
	var tokens []token
	for i := 0; i < len(statement); {
		at, c := i, statement[i]
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '\'':
			text, end, ok := quoted(statement, i)
			if !ok {
				return nil, unreadableQuery("Lexical error at line 1, column %d. the string has no end", at+1)
			}
			i = end
			tokens = append(tokens, token{tokenText, text, at + 1})
		case isWord(c, true):
			for i < len(statement) && isWord(statement[i], false) {
				i++
			}
			tokens = append(tokens, token{tokenWord, statement[at:i], at + 1})
		case c >= '0' && c <= '9' || c == '-':
			i++
			for i < len(statement) && (statement[i] >= '0' && statement[i] <= '9' || statement[i] == '.') {
				i++
			}
			tokens = append(tokens, token{tokenNumber, statement[at:i], at + 1})
		case strings.IndexByte("=<>(),*", c) >= 0:
			i++
			if (c == '<' || c == '>') && i < len(statement) && statement[i] == '=' {
				i++
			}
			tokens = append(tokens, token{tokenSign, statement[at:i], at + 1})
		default:
			return nil, unreadableQuery("Lexical error at line 1, column %d. Encountered: %q", at+1, c)
		}
	}
	return append(tokens, token{tokenEnd, "<EOF>", len(statement) + 1}), nil
}

// quoted reads a text literal that begins at i. A backslash escapes.
func quoted(s string, i int) (text string, end int, ok bool) {
	var b strings.Builder
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\'':
			return b.String(), i + 1, true
		case '\\':
			if i++; i == len(s) {
				return "", 0, false
			}
		}
		b.WriteByte(s[i])
	}
	return "", 0, false
}

func isWord(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		return true
	}
	return !first && (c == '.' || c >= '0' && c <= '9')
}
