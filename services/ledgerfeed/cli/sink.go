package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

type sinkCmd struct {
	Ls     sinkLsCmd     `cmd:"" help:"List sinks and their state."`
	Show   sinkShowCmd   `cmd:"" help:"Show the backlog and dead letters of a sink."`
	Pause  sinkPauseCmd  `cmd:"" help:"Pause writes to a sink; its changes are queued."`
	Resume sinkResumeCmd `cmd:"" help:"Resume writes to a paused sink."`
}

type sinkLsCmd struct {
	redisFlags  `embed:""`
	brokerFlags `embed:""`
	JSON        bool `help:"Print one JSON object per line."`
}

// Help is the long help of the command.
func (sinkLsCmd) Help() string {
	return `Examples:
  ledgerfeed sink ls
  ledgerfeed sink ls --json | jq -r 'select(.state == "down") | [.sink, .error] | @tsv'`
}

// Run lists.
func (c *sinkLsCmd) Run(ctx context.Context, p process) error {
	store, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	names, err := store.Sinks(ctx)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintln(p.stderr, "no sinks: no processor has registered one yet")
		return nil
	}
	conn, unreachable := c.connect(ctx, p)
	if unreachable != nil {
		fmt.Fprintf(p.stderr, "what waits is not shown: %v\n", unreachable)
	} else {
		defer conn.Close()
	}
	var all []sinkStatus
	for _, name := range names {
		status, err := statusOf(ctx, store, conn, name)
		if err != nil {
			return err
		}
		all = append(all, status)
	}
	if c.JSON {
		for _, status := range all {
			err = errors.Join(err, json.NewEncoder(p.stdout).Encode(status))
		}
		return err
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SINK\tSTATE\tSINCE\tWAITING\tNEXT TRY\tLAST ERROR")
	for _, s := range all {
		since, next, waiting := "", "", "?"
		if s.Waiting != nil {
			waiting = strconv.FormatUint(*s.Waiting, 10)
		}
		if s.State == sinkDown {
			since, next = age(*s.Since), "in "+max(time.Until(*s.Next), 0).Round(100*time.Millisecond).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(s.Sink), s.State, since, waiting, next, plain(s.Error))
	}
	return t.Flush()
}

// The states of a sink.
const (
	sinkWriting = "writing"
	sinkPaused  = "paused"
	sinkDown    = "down"
	// sinkIdle: no processor runs that could write.
	sinkIdle = "no processor"
)

// sinkStatus is what is known of a sink.
type sinkStatus struct {
	Sink    string  `json:"sink"`
	State   string  `json:"state"` // writing, paused, down, no processor
	Paused  bool    `json:"paused"`
	Waiting *uint64 `json:"waiting,omitempty"` // messages on its retry queue; none: the broker does not answer
	Retried *uint64 `json:"retried,omitempty"` // of those, tried more than once
	// Of a sink that is down: what the last write failed with, since when, how often in a
	// row, and when the next one is tried.
	Error    string     `json:"error,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Failures int        `json:"failures,omitempty"`
	Next     *time.Time `json:"next_try,omitempty"`
}

// statusOf asks Redis and, unless conn is nil, the broker.
func statusOf(ctx context.Context, store *state.Store, conn *stream.Conn, name string) (sinkStatus, error) {
	paused, err := store.PausedSinks(ctx)
	if err != nil {
		return sinkStatus{}, err
	}
	s := sinkStatus{Sink: name, State: sinkWriting, Paused: slices.Contains(paused, name)}
	if conn != nil {
		lag, err := conn.Lag(ctx, stream.Retry(name), stream.RetryDurable(processorDurable, name))
		if err != nil {
			return sinkStatus{}, err
		}
		waiting := lag.Pending + lag.AckPending
		s.Waiting, s.Retried = &waiting, &lag.Redelivered
	}
	troubles, err := store.SinkTroubles(ctx, name)
	if err != nil {
		return sinkStatus{}, err
	}
	replicas, err := store.Replicas(ctx, processorDurable)
	if err != nil {
		return sinkStatus{}, err
	}
	switch {
	case s.Paused:
		s.State = sinkPaused
	case len(troubles) > 0:
		t := troubles[0]
		s.State, s.Error, s.Since, s.Failures, s.Next = sinkDown, t.Error, &t.Since, t.Failures, &t.Next
	case len(replicas) == 0:
		s.State = sinkIdle
	}
	return s, nil
}

type sinkShowCmd struct {
	redisFlags  `embed:""`
	brokerFlags `embed:""`
	Sink        string `arg:"" help:"Name of the sink in processor.sinks."`
	JSON        bool   `help:"Print one JSON object."`
}

// Help is the long help of the command.
func (sinkShowCmd) Help() string {
	return `Shows whether a sink is paused or down and why, how many messages wait on its retry queue, how often they were tried,
how many dead letters there are because of it, and how many documents it holds with characters replaced.

Examples:
  ledgerfeed sink show crm
  ledgerfeed sink show crm --json | jq .waiting`
}

// processorDurable begins the names of the processors' consumers.
const processorDurable = "processor"

// sinkShown is what --json prints.
type sinkShown struct {
	sinkStatus
	Dead int `json:"dead_letters"`
	// Sanitized is how many documents were stored with characters replaced that the sink
	// cannot hold.
	Sanitized int64 `json:"sanitized,omitempty"`
}

// Run shows one.
func (c *sinkShowCmd) Run(ctx context.Context, p process) error {
	store, err := c.openFor(ctx, p, c.Sink)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	conn, err := c.connect(ctx, p)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := showSink(ctx, store, conn, c.Sink)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	t := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "sink\t%s\n", plain(s.Sink))
	fmt.Fprintf(t, "state\t%s\n", s.State)
	if s.State == sinkDown {
		fmt.Fprintf(t, "since\t%s (%s), %d failures in a row\n", s.Since.UTC().Format(time.RFC3339), age(*s.Since), s.Failures)
		fmt.Fprintf(t, "next try\t%s\n", s.Next.UTC().Format(time.RFC3339))
		fmt.Fprintf(t, "last error\t%s\n", plain(s.Error))
	}
	fmt.Fprintf(t, "waiting\t%d messages, %d of them tried more than once\n", *s.Waiting, *s.Retried)
	fmt.Fprintf(t, "dead letters\t%d\n", s.Dead)
	if s.Sanitized > 0 {
		fmt.Fprintf(t, "sanitized\t%d documents were stored with characters replaced\n", s.Sanitized)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.Dead > 0 {
		fmt.Fprintf(p.stderr, "why: ledgerfeed dead ls --sink %s\n", plain(s.Sink))
	}
	return nil
}

func showSink(ctx context.Context, store *state.Store, conn *stream.Conn, name string) (sinkShown, error) {
	status, err := statusOf(ctx, store, conn, name)
	if err != nil {
		return sinkShown{}, err
	}
	s := sinkShown{sinkStatus: status}
	if s.Sanitized, err = store.Sanitized(ctx, name); err != nil {
		return sinkShown{}, err
	}
	err = conn.EachDead(ctx, stream.DeadFilter{Sink: name}, func(stream.DeadLetter) error {
		s.Dead++
		return nil
	})
	return s, err
}

// openFor is open for a command about a sink, which must be known. Close it.
func (f redisFlags) openFor(ctx context.Context, p process, sink string) (*state.Store, error) {
	store, err := f.open(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := sinkKnown(ctx, store, sink); err != nil {
		_ = store.Close()
		return nil, err
	}
	return store, nil
}

// sinkSwitch is what pausing and resuming have in common.
type sinkSwitch struct {
	redisFlags `embed:""`
	Sink       string `arg:"" help:"Name of the sink in processor.sinks."`
	consent    `embed:""`
}

func (c *sinkSwitch) run(ctx context.Context, p process, verb, done string, do func(*state.Store, context.Context, string) error) error {
	if err := c.possible(p); err != nil {
		return err
	}
	store, err := c.openFor(ctx, p, c.Sink)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if c.DryRun {
		_, err := fmt.Fprintf(p.stdout, "would %s sink %s\n", verb, c.Sink)
		return err
	}
	if err := c.ask(ctx, p, fmt.Sprintf("%s sink %s?", verb, c.Sink)); err != nil {
		return err
	}
	if err := do(store, ctx, c.Sink); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s %s\n", done, c.Sink)
	return err
}

type sinkPauseCmd struct {
	sinkSwitch `embed:""`
}

// Help is the long help of the command.
func (sinkPauseCmd) Help() string {
	return `All processors stop writing to the sink within some seconds. What is for it waits on its retry queue; the other
sinks go on.

Examples:
  ledgerfeed sink pause crm
  ledgerfeed sink pause crm --yes`
}

// Run pauses.
func (c *sinkPauseCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "pause", "paused", (*state.Store).PauseSink)
}

type sinkResumeCmd struct {
	sinkSwitch `embed:""`
}

// Help is the long help of the command.
func (sinkResumeCmd) Help() string {
	return `The sink is given what waited for it within a minute or so.

Examples:
  ledgerfeed sink resume crm --yes`
}

// Run resumes.
func (c *sinkResumeCmd) Run(ctx context.Context, p process) error {
	return c.run(ctx, p, "resume", "resumed", (*state.Store).ResumeSink)
}
