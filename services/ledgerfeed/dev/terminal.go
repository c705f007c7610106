package dev

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

const eraseLine = "\r\x1b[K"

// terminal writes lines and, where it is a real terminal, keeps one live line
// below them that is rewritten in place. Logs go through it too, as they
// would otherwise be written into the middle of the live line.
type terminal struct {
	live  bool
	width func() int // columns; 0 is unknown

	mu   sync.Mutex // guards out and line
	out  io.Writer
	line string
}

func newTerminal(out io.Writer) *terminal {
	t := &terminal{out: out, width: func() int { return 0 }}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.live = true
		t.width = func() int {
			width, _, _ := term.GetSize(int(f.Fd()))
			return width
		}
	}
	return t
}

// Write puts whole lines above the live one.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.line == "" {
		return t.out.Write(p)
	}
	var b bytes.Buffer
	b.WriteString(eraseLine)
	b.Write(p)
	b.WriteString(t.line)
	if _, err := t.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Printf writes one line. Where the output is gone there is nobody to tell.
func (t *terminal) Printf(format string, args ...any) {
	_, _ = fmt.Fprintf(t, format+"\n", args...)
}

// Live replaces the live line. It is cut to the terminal's width: a line that
// wraps cannot be rewritten in place.
func (t *terminal) Live(line string) {
	if width, runes := t.width(), []rune(line); width > 0 && len(runes) >= width {
		line = string(runes[:width-1])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = line
	_, _ = io.WriteString(t.out, eraseLine+line)
}

// EndLive leaves the live line standing and ends it.
func (t *terminal) EndLive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.line != "" {
		t.line = ""
		_, _ = io.WriteString(t.out, "\n")
	}
}
