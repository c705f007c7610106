package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// behindInterval is how often a sink that is behind is checked.
	behindInterval = 10 * time.Second
	// behindAfter is how long after the first note of a realm it is made due, so that a
	// sink that comes and goes does not have a realm scanned again and again.
	behindAfter = 15 * time.Minute
	behindLease = 30 * time.Second
)

// scanned reports whether a scan finds the change of u by itself: its entity is read by
// scans, and when it happened is known. A replay asks for what the sink may have, and
// a record that was merged away shows in no answer.
func (u *unit) scanned() bool {
	info, known := entity.Lookup(u.entity)
	return known && (info.CDC || info.Query) && !u.replay() && u.mergedInto == "" && (u.version > 0 || !u.occurred.IsZero())
}

// happened is when the change happened, at the latest when we heard of it.
func (u *unit) happened() time.Time {
	at := u.when()
	if heard := u.received(); heard.Unix() > 0 && heard.Before(at) {
		return heard
	}
	return at
}

// leaveToScan notes what a sink did not get of a message and no queue has room for. The
// marks say which records that are, and no cursor passes what a mark lacks; the note says
// from when on a scan has to look, should the cursor be past it. What no scan finds
// becomes a dead letter of the sink. Note before ack: a crash in between repeats the note.
func (p *Processor) leaveToScan(ctx context.Context, m *message, o *outcome, s int, units []*unit, why error) error {
	name := p.outputs[s].Name()
	oldest := map[string]time.Time{}
	left := 0
	for _, u := range units {
		if !u.scanned() {
			o.bury(death{reason: stream.ReasonRetryFull, detail: why.Error(), sink: name, units: []*unit{u}})
			continue
		}
		left++
		if at, ok := oldest[u.entity]; !ok || u.happened().Before(at) {
			oldest[u.entity] = u.happened()
		}
	}
	if err := p.state.NoteBehind(ctx, m.env.GetRealmId(), name, oldest); err != nil {
		return paused(err)
	}
	p.count.behind(name, left)
	return nil
}

// failedAt are the units that the sink did not take and may take later.
func (m *message) failedAt(s int) (units []*unit) {
	for _, u := range m.units {
		for _, f := range u.failed {
			if _, permanent := stream.AsPermanent(f.err); f.sink == s && !permanent {
				units = append(units, u)
				break
			}
		}
	}
	return units
}

// keepBehind has a sink that is back get what no queue holds for it, until ctx ends.
func (p *Processor) keepBehind(ctx context.Context, s int) error {
	for ctx.Err() == nil {
		if err := p.catchUp(ctx, s); err != nil && !errors.Is(err, state.ErrHeld) && ctx.Err() == nil {
			p.log.Warn("scans for a sink that was down not scheduled, will retry", telemetry.Sink(p.outputs[s].Name()), telemetry.Error(err))
		}
		_ = lifecycle.Sleep(ctx, p.behindEvery) // its error is the end of ctx
	}
	return nil
}

// catchUp makes the realms due of which the sink did not get changes, once it takes them
// again and its queue has room.
func (p *Processor) catchUp(ctx context.Context, s int) error {
	name := p.outputs[s].Name()
	n, err := p.state.CountBehind(ctx, name)
	if err != nil {
		return err
	}
	p.count.lagging.WithLabelValues(name).Set(float64(n))
	if n == 0 || p.outputs[s].state() != 0 {
		return nil
	}
	if room, err := p.roomToRetry(ctx, name); err != nil || !room {
		return err
	}
	lease, err := p.state.Lease(ctx, "behind:"+name, behindLease)
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	realms := map[string][]state.Behind{}
	for cursor := uint64(0); ; {
		var page []state.Behind
		if page, cursor, err = p.state.Behind(ctx, name, cursor); err != nil {
			return err
		}
		for _, note := range page {
			if p.now().Sub(note.Since) >= p.behindAfter {
				realms[note.Realm] = append(realms[note.Realm], note)
			}
		}
		if cursor == 0 {
			break
		}
	}
	for realm, notes := range realms {
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		if err := p.scanFrom(ctx, realm, notes); err != nil {
			return err
		}
		// Schedule before this: a crash in between has the realm scanned twice.
		if err := p.state.EndBehind(ctx, name, notes); err != nil {
			return err
		}
	}
	if len(realms) > 0 {
		p.log.Info("scanning realms for a sink that was down", telemetry.Sink(name), telemetry.Count(len(realms)))
	}
	return nil
}

// roomToRetry reports whether what the sink does not take at once has room on its queue.
func (p *Processor) roomToRetry(ctx context.Context, sink string) (bool, error) {
	lag, err := p.stream.Lag(ctx, stream.Retry(sink), stream.RetryDurable(durableName, sink))
	if err != nil || lag.Stored == 0 {
		return err == nil, err
	}
	usage, err := p.stream.Usage(ctx)
	if err != nil {
		return false, err
	}
	for _, u := range usage {
		if u.Stream == stream.RetryStream {
			return u.MaxBytes <= 0 || u.Bytes < uint64(u.MaxBytes)/2, nil
		}
	}
	return false, nil
}

// scanFrom makes a realm due for a scan that sees what the notes are about. A cursor that
// is past it goes back: it may have passed a change that the API did not show yet, or
// one that came by a webhook late. Of what CDC leaves out, only a scan that covers
// everything sees anything, and rewinding makes the next one do so.
func (p *Processor) scanFrom(ctx context.Context, realm string, notes []state.Behind) error {
	cursors, err := p.state.Cursors(ctx, realm)
	if err != nil {
		return err
	}
	for _, note := range notes {
		cursor, loaded := cursors[note.Entity]
		info, _ := entity.Lookup(note.Entity)
		if !loaded || info.CDC && !cursor.After(note.Oldest) {
			continue // the next scan begins before it
		}
		if err := p.state.RewindCursors(ctx, realm, []string{note.Entity}, note.Oldest.Add(-time.Second)); err != nil {
			return err
		}
	}
	// A dormant realm would rest.
	pace, err := p.state.Pace(ctx, realm)
	if err != nil {
		return err
	}
	if !pace.Scanned.IsZero() {
		pace.Changed = p.now()
		if err := p.state.SetPace(ctx, realm, pace); err != nil {
			return err
		}
	}
	if err := p.state.ScheduleIn(ctx, realm, 0); err != nil {
		return fmt.Errorf("scan for a sink that was down: %w", err)
	}
	return nil
}
