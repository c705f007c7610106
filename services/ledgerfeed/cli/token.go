package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// tokenFlags name a verifier token. A token on the command line can be read by
// other users of the machine, one in a file cannot.
type tokenFlags struct {
	Token     *string `placeholder:"TOKEN" help:"Verifier token of the app, from Intuit's developer portal."`
	TokenFile string  `placeholder:"FILE" help:"Read the verifier token from FILE instead."`
}

// token is empty if neither flag is given.
func (f tokenFlags) token() (secret.String, error) {
	switch {
	case f.Token != nil && f.TokenFile != "":
		return "", lifecycle.Usage(errors.New("--token and --token-file: give one of them"))
	case f.Token != nil && *f.Token == "":
		return "", lifecycle.Usage(errors.New(`--token "": it is empty; copy the verifier token from Intuit's developer portal`))
	case f.Token != nil:
		return secret.String(*f.Token), nil
	case f.TokenFile == "":
		return "", nil
	}
	text, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return "", lifecycle.Usage(fmt.Errorf("--token-file %s: %w", f.TokenFile, cause(err)))
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", lifecycle.Usage(fmt.Errorf("--token-file %s: it is empty", f.TokenFile))
	}
	return secret.String(token), nil
}

// body reads a file, or stdin for "-", byte by byte: a signature is over the
// bytes, not over what they mean.
func body(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		b, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read the body from stdin: %w", err)
		}
		return b, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("body %s: %w; name a file, or - for stdin", file, cause(err)))
	}
	return b, nil
}

// cause leaves out the path that the caller names already.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
