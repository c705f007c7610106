package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// logger is for what the libraries below report.
func (p process) logger() (*zap.Logger, error) {
	log, err := telemetry.NewLogger(p.config.Log, p.stderr)
	return log, lifecycle.Usage(err)
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// terminal reports whether there is somebody to ask.
func (p process) terminal() bool { return isTerminal(p.stdin) }

// consent is what a command that changes something asks for first.
type consent struct {
	DryRun bool `help:"Show what would be done without doing it."`
	Yes    bool `short:"y" help:"Skip the confirmation prompt."`
}

// possible refuses to begin where nobody could be asked.
func (c consent) possible(p process) error {
	if !c.DryRun && !c.Yes && !p.terminal() {
		return lifecycle.Usage(errors.New("there is no terminal to ask at: give --yes, or --dry-run to see what would be done"))
	}
	return nil
}

// ask is nil if it may be done.
func (c consent) ask(ctx context.Context, p process, question string) error {
	if c.DryRun || c.Yes {
		return nil
	}
	return p.agree(ctx, question)
}

// agree is nil if the answer is yes.
func (p process) agree(ctx context.Context, question string) error {
	yes, err := p.confirm(ctx, question)
	if err != nil || !yes {
		return errors.Join(err, errors.New("nothing was done"))
	}
	return nil
}

// confirm asks, and takes anything but y or yes for no.
func (p process) confirm(ctx context.Context, question string) (bool, error) {
	if _, err := fmt.Fprintf(p.stderr, "%s [y/N] ", question); err != nil {
		return false, err
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	// Reading cannot be interrupted; the process ends soon after ctx.
	go func() {
		text, err := bufio.NewReader(p.stdin).ReadString('\n')
		if err == io.EOF {
			err = nil
		}
		got <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case a := <-got:
		text := strings.ToLower(strings.TrimSpace(a.text))
		return text == "y" || text == "yes", a.err
	}
}

// plainEvery is how often progress is told where it cannot be shown in place.
const plainEvery = 5 * time.Second

// progress shows how far long work is: a bar on a terminal, else a line now and
// then. It is for one goroutine at a time.
type progress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil: not a terminal
	total int                      // -1 for unknown
	what  string
	next  time.Time
}

func newProgress(out io.Writer, total int, what string) *progress {
	b := &progress{out: out, total: total, what: what, next: time.Now().Add(plainEvery)}
	if isTerminal(out) {
		b.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish())
	}
	return b
}

// describe says what the work is at.
func (b *progress) describe(what string) {
	if b.what = what; b.bar != nil {
		b.bar.Describe(what)
	}
}

// of changes how much work there is.
func (b *progress) of(total int) {
	if b.total = total; b.bar != nil {
		b.bar.ChangeMax(total)
	}
}

func (b *progress) show(n int) {
	if b.bar != nil {
		_ = b.bar.Set(n)
		return
	}
	now := time.Now()
	if now.Before(b.next) {
		return
	}
	b.next = now.Add(plainEvery)
	if b.total < 0 {
		fmt.Fprintf(b.out, "%s %d\n", b.what, n)
		return
	}
	fmt.Fprintf(b.out, "%s %d of %d\n", b.what, n, b.total)
}

func (b *progress) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
