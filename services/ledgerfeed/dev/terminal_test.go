package dev

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTerminal_LinesGoAboveTheLiveOne(t *testing.T) {
	var out strings.Builder
	term := newTerminal(&out)
	term.Printf("started")
	term.Live("1 change")
	term.Live("2 changes")
	term.Printf("a log line")
	term.EndLive()
	term.Printf("stopped")
	require.Equal(t, "started\n"+
		"\r\x1b[K1 change"+
		"\r\x1b[K2 changes"+
		"\r\x1b[Ka log line\n2 changes"+
		"\nstopped\n", out.String())
}

func TestTerminal_IsPlainWhenNotATerminal(t *testing.T) {
	require.False(t, newTerminal(&strings.Builder{}).live)
}

func TestTerminal_CutsWhatWouldWrap(t *testing.T) {
	var out strings.Builder
	term := newTerminal(&out)
	term.width = func() int { return 6 }
	term.Live("· ten runes")
	require.Equal(t, "\r\x1b[K· ten", out.String())
}
