package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

const (
	signatureHeader = "intuit-signature"
	maxAnswer       = 4 << 10
)

type sendCmd struct {
	tokenFlags `embed:""`
	Signature  *string       `placeholder:"BASE64" help:"Send this intuit-signature unchanged instead of signing; '' sends none."`
	URL        string        `default:"http://127.0.0.1:8080/webhooks/dev" help:"URL to post to (${default})."`
	Header     []string      `sep:"none" placeholder:"NAME:VALUE" help:"Additional request header (repeatable)."`
	Timeout    time.Duration `default:"10s" help:"Response timeout (${default})."`
	File       string        `arg:"" help:"Body file, or - for stdin."`
}

// Help is the long help of the command.
func (sendCmd) Help() string {
	return `Posts the bytes of FILE as Intuit would and prints the status and the latency.
Exits 0 if the answer is 200, 1 if it is another one, 3 if there is none.

Examples:
  ledgerfeed send --token ledgerfeed-dev-verifier body.json
  ledgerfeed send --token-file token.txt --url https://example.com/webhooks/prod - < body.json
  ledgerfeed send --signature "JC2GUwci…" --header "intuit-t-id: abc" body.json`
}

// Run posts the body.
func (c *sendCmd) Run(ctx context.Context, p process) error {
	req, err := c.request(ctx, p)
	if err != nil {
		return err
	}
	client := &http.Client{
		Timeout: c.Timeout,
		// Intuit does not follow a redirect either: it is not 200.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	begun := time.Now()
	resp, err := client.Do(req)
	took := time.Since(begun).Round(100 * time.Microsecond)
	if err != nil {
		return c.noAnswer(ctx, err)
	}
	defer resp.Body.Close()
	if _, err := fmt.Fprintf(p.stdout, "%s in %s\n", resp.Status, took); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.URL, err)
	}
	return fmt.Errorf("%s answered %s: %s", c.URL, resp.Status, strings.TrimSpace(string(answer)))
}

func (c *sendCmd) request(ctx context.Context, p process) (*http.Request, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, lifecycle.Usage(fmt.Errorf("--url %s: use http://HOST:PORT/webhooks/APP", c.URL))
	}
	if c.Timeout <= 0 {
		return nil, lifecycle.Usage(fmt.Errorf("--timeout %s: give a positive duration such as 10s", c.Timeout))
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	if (token == "") == (c.Signature == nil) {
		return nil, lifecycle.Usage(errors.New("give --token or --token-file to sign the body, or --signature to send that one as it is"))
	}
	b, err := body(c.File, p.stdin)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(b))
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("--url %s: %w", c.URL, err))
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case c.Signature == nil:
		req.Header.Set(signatureHeader, webhook.Sign(b, token))
	case *c.Signature != "":
		req.Header.Set(signatureHeader, *c.Signature)
	}
	return req, c.addHeaders(req)
}

func (c *sendCmd) addHeaders(req *http.Request) error {
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(line, "\r\n") {
			return lifecycle.Usage(fmt.Errorf("--header %q: use NAME:VALUE", line))
		}
		req.Header.Set(name, strings.TrimSpace(value))
		if strings.EqualFold(name, "Host") {
			req.Host = req.Header.Get(name)
		}
	}
	return nil
}

// noAnswer tells a server that cannot be reached from a person's ctrl-C.
func (c *sendCmd) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
		if ue.Timeout() {
			err = fmt.Errorf("no answer within %s; see --timeout", c.Timeout)
		}
	}
	return lifecycle.Unreachable(c.URL, err)
}
