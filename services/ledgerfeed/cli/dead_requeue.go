package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// letterChoice are the flags of what changes dead letters.
type letterChoice struct {
	brokerFlags  `embed:""`
	letterFilter `embed:""`
	Seq          []uint64 `arg:"" optional:"" help:"Sequence numbers of dead letters, as shown by ls."`
	All          bool     `help:"Select all dead letters."`
	consent      `embed:""`
}

type deadRequeueCmd struct {
	letterChoice `embed:""`
}

// Help is the long help of the command.
func (deadRequeueCmd) Help() string {
	return `Puts the events of dead letters on the event stream again, then deletes the letters. The records are read anew
and delivered whatever the sinks have of them, but never an older version; a letter about one sink goes to that
sink only. A body that could not be read is read again, in case this version of Ledgerfeed can. What cannot be
requeued is named, and its letter stays.

Interrupted or killed, run it again: an event may then be delivered twice, and none is lost.
Exits 0 if all were requeued, 1 if some stay.

Examples:
  ledgerfeed dead requeue 17 18
  ledgerfeed dead requeue --reason sink-refused --sink crm --since 2026-11-20
  ledgerfeed dead requeue --realm 9341453000000001 --dry-run
  ledgerfeed dead requeue --all --yes`
}

// Run requeues.
func (c *deadRequeueCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, action{verb: "requeue", done: "requeued", try: tryRequeue, do: requeue})
}

type deadPurgeCmd struct {
	letterChoice `embed:""`
}

// Help is the long help of the command.
func (deadPurgeCmd) Help() string {
	return `Deletes dead letters for good. What they are about is not delivered, unless it changes once more or a scan
reads it again, such as that for a new sink.

Examples:
  ledgerfeed dead purge 17
  ledgerfeed dead purge --reason unreadable --until 30d
  ledgerfeed dead purge --all --yes`
}

// Run purges.
func (c *deadPurgeCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, action{verb: "purge", done: "purged", try: func(stream.DeadLetter) error { return nil }, do: purge})
}

// action is what is done to each letter.
type action struct {
	verb, done string
	try        func(stream.DeadLetter) error // would it work?
	do         func(context.Context, *stream.Conn, stream.DeadLetter) error
}

func tryRequeue(d stream.DeadLetter) error {
	_, err := d.Revive()
	return err
}

func requeue(ctx context.Context, conn *stream.Conn, d stream.DeadLetter) error {
	_, err := conn.Requeue(ctx, d)
	return err
}

func purge(ctx context.Context, conn *stream.Conn, d stream.DeadLetter) error {
	return conn.DeleteDead(ctx, d.Seq)
}

func (c *letterChoice) validate(p process) (stream.DeadFilter, error) {
	f, err := c.filter()
	if err != nil {
		return f, err
	}
	given := 0
	for _, is := range []bool{len(c.Seq) > 0, !f.All(), c.All} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return f, lifecycle.Usage(errors.New("say which letters: their numbers, a filter such as --reason, or --all"))
	case given > 1:
		return f, lifecycle.Usage(errors.New("give either numbers of letters, or a filter, or --all"))
	}
	return f, c.possible(p)
}

func (c *letterChoice) run(ctx context.Context, p process, a action) error {
	f, err := c.validate(p)
	if err != nil {
		return err
	}
	conn, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	meant, err := c.choose(ctx, conn, f)
	if err != nil {
		return err
	}
	if len(meant.seqs) == 0 {
		_, err := fmt.Fprintln(p.stdout, "no dead letters")
		return err
	}
	if c.DryRun {
		return a.dryRun(ctx, p, conn, meant)
	}
	if err := c.ask(ctx, p, fmt.Sprintf("%s %s?", a.verb, meant)); err != nil {
		return err
	}
	return a.run(ctx, p, conn, meant)
}

// choice are the letters that are meant. They are fixed before anything is done:
// a letter requeued may die again, and shall not be requeued for ever.
type choice struct {
	seqs    []uint64
	reasons map[stream.Reason]int
}

func (c choice) String() string {
	text := fmt.Sprintf("%d dead letters", len(c.seqs))
	if len(c.seqs) == 1 {
		text = "1 dead letter"
	}
	sep := " ("
	for _, r := range slices.Sorted(maps.Keys(c.reasons)) {
		text += fmt.Sprintf("%s%d %s", sep, c.reasons[r], orDash(r.String()))
		sep = ", "
	}
	return text + ")"
}

func (c *letterChoice) choose(ctx context.Context, conn *stream.Conn, f stream.DeadFilter) (choice, error) {
	meant := choice{reasons: map[stream.Reason]int{}}
	add := func(d stream.DeadLetter) error {
		meant.seqs = append(meant.seqs, d.Seq)
		meant.reasons[d.Reason]++
		return nil
	}
	slices.Sort(c.Seq)
	for _, seq := range slices.Compact(c.Seq) {
		d, err := conn.DeadLetter(ctx, seq)
		if err != nil {
			return meant, err
		}
		_ = add(d)
	}
	if len(c.Seq) == 0 {
		if err := conn.EachDead(ctx, f, add); err != nil {
			return meant, err
		}
	}
	return meant, nil
}

// atOnce is how many letters are worked on at a time: the broker syncs for them
// together.
const atOnce = 16

// each calls do for each letter that is still there, and returns those that fail.
func (a action) each(ctx context.Context, p process, conn *stream.Conn, meant choice, do func(context.Context, stream.DeadLetter) error) *outcomes {
	out := &outcomes{progress: newProgress(p.stderr, len(meant.seqs), a.done)}
	defer out.progress.end()
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, seq := range meant.seqs {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			d, err := conn.DeadLetter(ctx, seq)
			if err == nil {
				err = do(ctx, d)
			}
			out.add(seq, err)
			return nil
		})
	}
	_ = g.Wait() // the errors are in out
	return out
}

func (a action) run(ctx context.Context, p process, conn *stream.Conn, meant choice) error {
	out := a.each(ctx, p, conn, meant, func(ctx context.Context, d stream.DeadLetter) error { return a.do(ctx, conn, d) })
	if _, err := fmt.Fprintf(p.stdout, "%s %d of %d dead letters\n", a.done, out.worked, len(meant.seqs)); err != nil {
		return err
	}
	return out.err(ctx, p.stderr, len(meant.seqs))
}

func (a action) dryRun(ctx context.Context, p process, conn *stream.Conn, meant choice) error {
	out := a.each(ctx, process{stderr: io.Discard}, conn, meant, func(_ context.Context, d stream.DeadLetter) error { return a.try(d) })
	_, err := fmt.Fprintf(p.stdout, "would %s %d of %s\n", a.verb, out.worked, meant)
	return errors.Join(err, out.err(ctx, p.stderr, len(meant.seqs)))
}

// outcomes is what became of the letters.
type outcomes struct {
	progress *progress

	mu     sync.Mutex // guards the rest
	worked int
	gone   int // somebody else was faster
	failed map[uint64]error
}

func (o *outcomes) add(seq uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.worked++
	case errors.Is(err, stream.ErrNoDeadLetter):
		o.gone++
	default:
		if o.failed == nil {
			o.failed = map[uint64]error{}
		}
		o.failed[seq] = err
	}
	o.progress.show(o.worked + o.gone + len(o.failed))
}

// maxNamed bounds the letters that are named one by one.
const maxNamed = 20

// err names the letters that stay.
func (o *outcomes) err(ctx context.Context, w io.Writer, meant int) error {
	for i, seq := range slices.Sorted(maps.Keys(o.failed)) {
		if i == maxNamed {
			fmt.Fprintf(w, "and %d more\n", len(o.failed)-maxNamed)
			break
		}
		fmt.Fprintf(w, "%d: %s\n", seq, plain(o.failed[seq].Error()))
	}
	left := meant - o.worked - o.gone
	switch {
	case ctx.Err() != nil && left > 0:
		return fmt.Errorf("interrupted: %d dead letters are left as they were; run it again", left)
	case left > 0:
		return fmt.Errorf("%d dead letters stay", left)
	}
	return nil
}
