package reconciler

import (
	"context"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// ensureEvery is how often the broker's record of the beats is looked for: a person may
// have deleted it, or the broker was replaced.
const ensureEvery = time.Minute

// ensureHeartbeats has the broker record the beats, for the time in which no reconciler
// listens. Without a record such a time counts by its length alone.
func (w *watcher) ensureHeartbeats(ctx context.Context) {
	now := w.r.now()
	if age := now.Sub(w.ensured); age >= 0 && age < ensureEvery {
		return
	}
	if err := w.r.stream.EnsureHeartbeats(ctx); err != nil {
		w.r.log.Debug("heartbeats not recorded", telemetry.Error(err))
		return
	}
	w.ensured = now
}

// noteWatch records that this replica listens. After a time in which nobody did, the
// broker's record tells whether the ingress was there.
func (r *Reconciler) noteWatch(ctx context.Context, heard bool) (state.Watch, error) {
	now, gap := r.now(), r.config.OutageGap
	before, err := r.state.Watch(ctx)
	if err != nil {
		return state.Watch{}, err
	}
	if before.Beat.IsZero() || now.Sub(before.Watched) <= gap {
		return r.state.NoteWatch(ctx, time.Time{}, heard, gap)
	}
	// A silence may have begun before the last listener stopped. A longer one is known.
	from := before.Beat
	if before.Watched.Sub(from) > gap {
		from = before.Watched
	}
	record, err := r.stream.Heartbeats(ctx, "ingress", now.Sub(from))
	if err != nil || !record.Complete {
		r.log.Info("heartbeats unknown for the time without a reconciler", telemetry.At(before.Watched), telemetry.Error(err))
		return r.state.NoteWatch(ctx, time.Time{}, heard, gap)
	}
	silences, last := silences(record, now.Sub(from), gap)
	for _, s := range silences {
		o := state.Outage{Kind: state.OutageIngress, From: now.Add(-s.from), To: now.Add(-s.to)}
		if err := r.state.AddOutage(ctx, o); err != nil {
			return state.Watch{}, err
		}
	}
	return r.state.NoteRecordedWatch(ctx, time.Time{}, heard, gap, last)
}

// silence is a time without a beat, by how long ago it began and ended.
type silence struct{ from, to time.Duration }

// silences are those longer than gap that have ended, in a record that reaches back over
// a time which began with a beat. last is the age of the last beat.
func silences(record stream.Heartbeats, over, gap time.Duration) (all []silence, last time.Duration) {
	last = over
	for _, age := range record.Ages {
		age = max(age, 0) // sent since the record was asked for
		if last-age > gap {
			all = append(all, silence{from: last, to: age})
		}
		last = min(last, age)
	}
	return all, last
}

// spread is over which time realms become due after the outages that are not settled.
// Where it is only unknown whether webhooks were taken, the schedule of a day will do.
func (r *Reconciler) spread(ctx context.Context, w state.Watch) (time.Duration, error) {
	all, err := r.state.Outages(ctx)
	if err != nil {
		return 0, err
	}
	unwatched := false
	for _, o := range all {
		switch {
		case o.Open, o.Kind == state.OutageLag, !o.To.After(w.Settled):
		case o.Kind == state.OutageUnwatched:
			unwatched = true
		default:
			return r.config.StartJitter, nil
		}
	}
	if unwatched {
		return max(r.config.Interval, r.config.StartJitter), nil
	}
	return r.config.StartJitter, nil
}
