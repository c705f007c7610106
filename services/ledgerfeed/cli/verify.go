package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

type verifyCmd struct {
	tokenFlags `embed:""`
	Signature  string `required:"" placeholder:"BASE64" help:"Value of the intuit-signature header."`
	File       string `arg:"" help:"File with the raw body as received, or - for stdin."`
}

// Help is the long help of the command.
func (verifyCmd) Help() string {
	return `Answers whether Intuit signed these bytes with this token. Nothing is sent anywhere.
Exits 0 if the signature is right and 1 if it is not.

Examples:
  ledgerfeed verify --token-file token.txt --signature "JC2GUwci…" body.json
  curl -s http://127.0.0.1:9000/captured | ledgerfeed verify --token-file token.txt --signature "$SIG" -`
}

// Run checks the signature.
func (c *verifyCmd) Run(p process) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	if token == "" {
		return lifecycle.Usage(errors.New("--token is missing: give --token or --token-file"))
	}
	b, err := body(c.File, p.stdin)
	if err != nil {
		return err
	}
	tokens := []secret.String{token}
	if _, err := webhook.Verify(b, c.Signature, tokens); err != nil {
		if oddity, bare := oddToken(token); c.TokenFile != "" && oddity != "" {
			return fmt.Errorf("%s: %w: --token-file %s: %s", c.File, err, c.TokenFile, tokenHint(oddity, b, c.Signature, bare))
		}
		return fmt.Errorf("%s: %w: %s", c.File, err, hint(b, c.Signature, tokens))
	}
	_, err = fmt.Fprintf(p.stdout, "signature is right (%d bytes)\n", len(b))
	return err
}

const (
	utf8BOM    = "\xef\xbb\xbf"
	utf16LEBOM = "\xff\xfe"
	utf16BEBOM = "\xfe\xff"
)

// oddToken says what an editor or a shell put around a token that belongs to no token of
// Intuit's, and what is left without it; empty if there is nothing.
func oddToken(token secret.String) (oddity string, bare secret.String) {
	text := token.Reveal()
	if strings.HasPrefix(text, utf16LEBOM) || strings.HasPrefix(text, utf16BEBOM) {
		return "it is UTF-16 with a byte order mark; save it as UTF-8 without one", ""
	}
	var odd []string
	if rest, ok := strings.CutPrefix(text, utf8BOM); ok {
		odd, text = append(odd, "a byte order mark before the token"), strings.TrimSpace(rest)
	}
	for _, quotes := range [][2]string{{`"`, `"`}, {"'", "'"}, {"“", "”"}} {
		rest, begins := strings.CutPrefix(text, quotes[0])
		rest, ends := strings.CutSuffix(rest, quotes[1])
		if begins && ends {
			odd, text = append(odd, "quotes around the token"), strings.TrimSpace(rest)
		}
	}
	if len(odd) == 0 {
		return "", ""
	}
	return "it has " + strings.Join(odd, " and ") + "; remove them", secret.String(text)
}

// tokenHint says whether the oddity is the whole cause.
func tokenHint(oddity string, b []byte, signature string, bare secret.String) string {
	if bare == "" {
		return oddity
	}
	if _, err := webhook.Verify(b, signature, []secret.String{bare}); err == nil {
		return oddity + ", and the signature is right"
	}
	return oddity + ". The signature is not right without them either: " + hint(b, signature, []secret.String{bare})
}

// hint tells the usual cause: an editor or a log that added or took away the
// end of the last line, which the signature covers too.
func hint(b []byte, signature string, tokens []secret.String) string {
	bare := bytes.TrimRight(b, "\r\n")
	if len(bare) < len(b) {
		if _, err := webhook.Verify(bare, signature, tokens); err == nil {
			return "it is right without the line end at the end of the file: check the bytes as they were received"
		}
	}
	for _, end := range []string{"\n", "\r\n"} {
		if _, err := webhook.Verify(append(bytes.Clone(b), end...), signature, tokens); err == nil {
			return "it is right with a line end added: check the bytes as they were received"
		}
	}
	return "the body was changed or parsed on its way, or the token is another app's (development and production have different ones)"
}
