// Package secret holds text that must not be seen: tokens, keys, passwords.
//
// A String prints, logs and marshals as "[REDACTED]", whatever the verb or the
// encoder; only Reveal gives the text. An empty String stays empty, so that a
// missing setting can be told from a set one.
//
// It does not protect memory (the text is an ordinary Go string). Two ways past
// it are Go's own: fmt does not call methods on unexported struct fields, so keep
// such fields exported or give the struct a String method; and encoding/json
// writes a map key of kind string as it stands, so never key a map by a secret.
package secret

import (
	"fmt"
	"io"
)

const redacted = "[REDACTED]"

// String is text that shows as "[REDACTED]". The zero value is an empty secret.
// Compare secrets that a stranger may guess with crypto/subtle, not ==.
type String string

// Reveal returns the text itself. Call it at the last moment, where the text
// goes out (a header, a connection), and pass the String until then.
func (s String) Reveal() string { return string(s) }

// String implements fmt.Stringer; zap.Stringer and zap.Any use it too.
func (s String) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString implements fmt.GoStringer.
func (s String) GoString() string { return fmt.Sprintf("secret.String(%q)", s.String()) }

// Format implements fmt.Formatter: without it %x and %q would show the text.
func (s String) Format(f fmt.State, verb rune) {
	text := s.String()
	switch verb {
	case 'q':
		text = `"` + text + `"`
	case 'v':
		if f.Flag('#') {
			text = s.GoString()
		}
	}
	_, _ = io.WriteString(f, text)
}

// MarshalText implements encoding.TextMarshaler. What is written cannot be read
// back: to store a secret, call Reveal and encrypt it.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON implements json.Marshaler; see MarshalText.
func (s String) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// UnmarshalText implements encoding.TextUnmarshaler: configuration is read
// into a String as it stands.
func (s *String) UnmarshalText(text []byte) error {
	*s = String(text)
	return nil
}
