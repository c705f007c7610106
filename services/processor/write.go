package processor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// write gives each sink the changes it lacks, all sinks at the same time.
func (p *Processor) write(ctx context.Context, b *batch) error {
	if p.erased(ctx, b.realm) {
		return errParked // while it was read; what is written from now on could stay
	}
	b.keep(func(it *item) bool { return it.verdict.change != nil })
	var writers sync.WaitGroup
	for s := range p.outputs {
		var lack []*item
		for _, it := range b.items {
			switch {
			case it.lacks(s):
				lack = append(lack, it)
			case it.lacking.has(s) && !it.unwanted.has(s):
				p.count.stale(p.outputs[s].Name())
			}
		}
		if len(lack) > 0 {
			writers.Go(func() { p.writeTo(ctx, s, lack) })
		}
	}
	writers.Wait()
	return nil
}

// lacks reports whether the sink is to be given the change. Never an older one
// than it has (I3), unless what it has is a tombstone that was wrong; the same version
// only with another document, or to a person who asked for it.
func (it *item) lacks(s int) bool {
	if !it.lacking.has(s) || it.unwanted.has(s) || it.verdict.change.GetDeleted() && sabotage.On(sabotage.TombstoneDropped) {
		return false
	}
	if sabotage.On(sabotage.NoVersionGuard) {
		return true
	}
	if it.restores(s) {
		return true
	}
	have, offered := it.marks[s].Version, it.verdict.change.GetVersion()
	if sabotage.On(sabotage.TombstoneFinal) && qbo.IsTombstone(have) {
		return false
	}
	if have != offered && !declined(have, offered) {
		return have < offered && (!qbo.IsTombstone(have) || !it.verdict.change.GetDeleted())
	}
	if hash := it.verdict.change.GetContentHash(); have == offered && hash != "" && hash != it.marks[s].Hash && !sabotage.On(sabotage.ContentIgnored) {
		return true
	}
	for _, u := range it.units {
		if u.replay() && u.sinks.has(s) {
			return true
		}
	}
	return false
}

// restores reports whether the change replaces a tombstone of the sink that was wrong.
func (it *item) restores(s int) bool {
	u := it.last((*unit).restored)
	if sabotage.On(sabotage.RestoredWithoutForce) {
		return false
	}
	return u != nil && !it.verdict.change.GetDeleted() && (qbo.IsTombstone(it.marks[s].Version) || u.from.env.GetSink() != "")
}

// onlyRetried reports whether all that is known of the items came from the retry
// queue of a sink: then no other waits.
func onlyRetried(items []*item) bool {
	for _, it := range items {
		for _, u := range it.units {
			if !u.from.retry {
				return false
			}
		}
	}
	return true
}

// writeTo writes items to one sink. A sink that says which it has not taken is
// believed; if another refuses some of them for good, halves of the batch find
// out which. A sink that has refused many records in a row gets one alone first:
// refused batches would open its breaker before a record could show what is wrong.
func (p *Processor) writeTo(ctx context.Context, s int, items []*item) {
	out := p.outputs[s]
	if len(items) > 1 && out.health.refusesAll() {
		p.writeTo(ctx, s, items[:1])
		p.writeTo(ctx, s, items[1:])
		return
	}
	changes := make([]*ledgerfeedv1.Change, len(items))
	for i, it := range items {
		changes[i] = it.verdict.change
	}
	began := time.Now()
	err := out.write(ctx, changes, len(p.outputs) > 1 && !onlyRetried(items))
	p.count.wrote(out.Name(), err, time.Since(began))
	var partial *sink.PartialError
	_, permanent := stream.AsPermanent(err)
	switch {
	case errors.As(err, &partial) && len(partial.Errs) == len(items):
		var taken []*ledgerfeedv1.Change
		for i, it := range items {
			if it.failed[s] = partial.Errs[i]; it.failed[s] == nil {
				taken = append(taken, changes[i])
			}
		}
		p.count.written(out.Name(), taken)
		return
	case permanent && len(items) > 1:
		half := len(items) / 2
		p.writeTo(ctx, s, items[:half])
		p.writeTo(ctx, s, items[half:])
		return
	}
	for _, it := range items {
		it.failed[s] = err
	}
	if err == nil {
		p.count.written(out.Name(), changes)
	}
}
