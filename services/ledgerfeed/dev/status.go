package dev

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	liveEvery  = 250 * time.Millisecond
	plainEvery = 5 * time.Second
	askTimeout = 2 * time.Second
)

// announce says where to look.
func (f *feed) announce() {
	f.term.Printf("ingress     %s", f.webhookURL())
	if f.console != nil {
		f.term.Printf("console     %s", f.console.URL())
	}
	if f.o.MetricsListen != telemetry.Off {
		f.term.Printf("metrics     http://%s/metrics", f.metrics.Addr())
	}
	for _, s := range f.sinks {
		f.term.Printf("sink        %s", s.target)
	}
	f.term.Printf("quickbooks  %s (simulated; faults and books under %s/sim/)", f.sim.url, f.sim.url)
	f.term.Printf("nats        %s", f.natsURL)
	f.term.Printf("redis       %s", f.redisAddress)
	f.term.Printf("data        %s (realms %s … %s)", f.data.path, f.realms[0], f.realms[len(f.realms)-1])
	if types := eventTypes(f.o.Unselected); len(types) > 0 {
		f.term.Printf("unselected  %s", strings.Join(types, " "))
	}
	if f.o.For == 0 {
		f.term.Printf("ctrl-C stops; the same command goes on from there")
	}
}

// showStatus keeps a line up to date until ctx ends: in place on a terminal,
// else as a new line every few seconds.
func (f *feed) showStatus(ctx context.Context) error {
	every := plainEvery
	if f.term.live {
		every = liveEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		line := f.statusLine(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if f.term.live {
			f.term.Live(line)
		} else {
			f.term.Printf("%s", line)
		}
	}
}

func (f *feed) statusLine(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := f.counts()
	return fmt.Sprintf("%6s  changes %d · delivered %d · lag %s · found by CDC %d · dead %s · calls %d",
		time.Since(f.o.Started).Round(time.Second), f.load.made.Load(), c.delivered, orUnknown(f.lag(ctx)),
		c.bySource[ledgerfeedv1.Source_SOURCE_CDC], orUnknown(f.dead(ctx)), f.sim.Stats().Calls)
}

// counts sums over the sinks.
func (f *feed) counts() counts {
	var sum counts
	for _, s := range f.sinks {
		sum.add(s.tally.Counts())
	}
	return sum
}

// lag is how many envelopes are on their way to a sink.
func (f *feed) lag(ctx context.Context) (int, error) {
	queues := []stream.Queue{stream.Events}
	for _, s := range f.sinks {
		queues = append(queues, stream.Retry(s.tally.Name()))
	}
	sum := uint64(0)
	for _, q := range queues {
		lag, err := f.stream.Lag(ctx, q, "processor")
		if err != nil {
			return 0, err
		}
		sum += lag.Pending + lag.AckPending
	}
	return int(sum), nil
}

// dead is the number of dead letters since the start: their numbers on the
// stream count up.
func (f *feed) dead(ctx context.Context) (int, error) {
	newest, err := f.newestDead(ctx)
	if err != nil {
		return 0, err
	}
	return int(newest - f.deadBefore), nil
}

func (f *feed) newestDead(ctx context.Context) (uint64, error) {
	letters, err := f.stream.DeadLetters(ctx, 1)
	if err != nil {
		return 0, fmt.Errorf("count the dead letters: %w", err)
	}
	if len(letters) == 0 {
		return 0, nil
	}
	return letters[0].Seq, nil
}

func orUnknown(n int, err error) string {
	if err != nil {
		return "?"
	}
	return fmt.Sprint(n)
}
