package dev

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// counts is what was delivered to one sink since the process started.
type counts struct {
	delivered int
	// duplicates are deliveries of what the sink had already. Another document of
	// the same version is none.
	duplicates int
	// backwards are deliveries of a version older than the sink had. A record that
	// lives again after a tombstone is none.
	backwards int
	bySource  map[ledgerfeedv1.Source]int
}

// tally passes changes on to a sink and counts those it took.
type tally struct {
	processor.Sink
	first func(time.Time) // called at the first delivery

	mu     sync.Mutex // guards what follows
	counts counts
	newest snapshot // delivered
}

// newTally counts from what the sink held before, so that a delivery repeated
// after a restart counts as a duplicate. nil counts this process's only.
func newTally(to processor.Sink, before snapshot, first func(time.Time)) *tally {
	t := &tally{
		Sink:   to,
		first:  first,
		counts: counts{bySource: map[ledgerfeedv1.Source]int{}},
		newest: make(snapshot, len(before)),
	}
	maps.Copy(t.newest, before)
	return t
}

// Unwrap is the sink itself, which may keep more than changes.
func (t *tally) Unwrap() processor.Sink { return t.Sink }

// Write counts what the sink took: what it refused comes again.
func (t *tally) Write(ctx context.Context, changes []*ledgerfeedv1.Change) error {
	err := t.Sink.Write(ctx, changes)
	var partial *sink.PartialError
	if err != nil && !errors.As(err, &partial) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, c := range changes {
		if partial == nil || partial.Errs[i] == nil {
			t.countLocked(c)
		}
	}
	return err
}

func (t *tally) countLocked(c *ledgerfeedv1.Change) {
	if t.counts.delivered == 0 {
		t.first(time.Now())
	}
	k := sink.RefOf(c)
	last := t.newest[k]
	next := holding{Row: sink.Row{Version: c.GetVersion(), Deleted: c.GetDeleted()}, content: contentOf(c.GetDocument())}
	restored := last.Deleted && !next.Deleted
	switch {
	case next.Version == last.Version && next.content == last.content:
		t.counts.duplicates++
	case next.Version < last.Version && !restored:
		t.counts.backwards++
	default:
		t.newest[k] = next
	}
	t.counts.delivered++
	t.counts.bySource[c.GetSource()]++
}

// Counts is a copy.
func (t *tally) Counts() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.bySource = make(map[ledgerfeedv1.Source]int, len(t.counts.bySource))
	for s, n := range t.counts.bySource {
		c.bySource[s] = n
	}
	return c
}

func (c *counts) add(o counts) {
	c.delivered += o.delivered
	c.duplicates += o.duplicates
	c.backwards += o.backwards
	if c.bySource == nil {
		c.bySource = map[ledgerfeedv1.Source]int{}
	}
	for s, n := range o.bySource {
		c.bySource[s] += n
	}
}
