package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// waiting is how many messages wait on the streams.
func (p *plant) waiting(ctx context.Context, retries bool) (uint64, error) {
	lag, err := p.conn.Lag(ctx, stream.Events, "processor")
	if err != nil || !retries {
		return lag.Stored, err
	}
	left := lag.Stored
	if lag, err = p.conn.Lag(ctx, stream.Waiting, "processor_waiting"); err != nil {
		return 0, err
	}
	left += lag.Stored
	for _, name := range []string{sinkTable, sinkPost} {
		lag, err := p.conn.Lag(ctx, stream.Retry(name), "processor-"+name)
		if err != nil {
			return 0, err
		}
		left += lag.Stored
	}
	return left, nil
}

// judge compares, at rest, what was promised with what came of it.
func (r *run) judge(ctx context.Context) (Result, error) {
	res := Result{Seed: r.seed, Invariants: map[string]string{}, Problems: map[string][]string{}, speed: r.speed, scans: r.scans}
	if !r.judgedI2 {
		if err := r.judgeEvents(ctx); err != nil {
			return res, err
		}
	}
	mislabelled, err := r.plant.database.mislabelled(ctx)
	if err != nil {
		return res, err
	}
	r.tombstones.look(ctx)
	dead, err := r.plant.dead(ctx)
	if err != nil {
		return res, err
	}
	doubles, backward, err := r.plant.database.doubles(ctx)
	if err != nil {
		return res, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res.Changes, res.Faults, res.Kills, res.Recovery, res.took = r.load.count(), r.faults, r.kills, r.recovery, time.Since(r.begun)
	for name, d := range r.differs {
		if b := r.before[name]; !b.equal() {
			d = b // a full load must not cover up for what others should have found
		}
		res.Lost, res.Stale, res.Extra = res.Lost+d.lost, res.Stale+d.stale, res.Extra+d.extra
		res.WrongTombstones, res.ContentDiffers = res.WrongTombstones+d.wrongTombstones, res.ContentDiffers+d.content
	}
	res.perMinute, res.concurrent, res.crowdedAt = r.plant.books.most()
	res.Doubles = doubles
	res.Inconclusive = r.inconclusive()
	if len(r.unfit) > 0 {
		res.Notes = append(res.Notes, "not possible on this machine: "+strings.Join(slices.Compact(slices.Sorted(slices.Values(r.unfit))), ", "))
	}
	for _, f := range r.failed {
		res.Notes = append(res.Notes, "fault not made: "+f)
	}
	if n := len(r.cursors.leftOut()); n > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("of %d records that came and went no answer can have told", n))
	}
	r.judgeI1(&res)
	if r.undrained != "" && !r.effects.withholds {
		r.unanswered = append(r.unanswered, r.undrained)
	}
	res.find("I2", r.judgedI2, r.unanswered...)
	r.judgeI3(&res, backward, mislabelled)
	r.judgeI4(&res, dead)
	r.judgeI5(&res, doubles)
	r.judgeLimits(&res)
	r.judgeTokens(ctx, &res)
	tried, problems := r.sampler.verdict()
	res.find("I9", tried, append(problems, append(r.stuck, r.overtold(dead)...)...)...)
	r.judgeForgeries(&res, dead)
	r.judgeI11(&res)
	r.judgeI12(&res)
	r.judgeI15(&res)
	res.find("I16", r.refusals > 0, r.unbounded...)
	return res, nil
}

// inconclusive says why the run proves nothing.
func (r *run) inconclusive() string {
	kills, planned := 0, 0
	for _, p := range r.plan {
		if !slices.Contains(r.unfit, p.name) {
			planned++
			kills += p.kills
		}
	}
	want := int(0.9 * r.o.Rate * r.o.For.Seconds())
	switch {
	case r.load.count() < want:
		return fmt.Sprintf("%d changes were made instead of %d", r.load.count(), want)
	case planned == 0:
		return "the schedule has no fault: run it for longer, or with other faults"
	case r.faults < planned-len(r.failed) || len(r.failed) > planned/3:
		return fmt.Sprintf("%d faults were made instead of %d", r.faults, planned)
	case r.kills < kills*2/3:
		return fmt.Sprintf("%d processes were killed instead of %d", r.kills, kills)
	}
	if kind := r.plant.oneVersion(); kind != "" {
		return "no " + kind + " ran in both versions: run it for longer, or with more restarts"
	}
	return ""
}

// writeTruth keeps what a person needs who looks into a failed run.
func (r *run) writeTruth(res Result) {
	type record struct {
		sink.Ref
		History []qbosim.State `json:"history"`
	}
	if r.plant.books == nil {
		return
	}
	var all []record
	for _, realm := range r.plant.books.Realms() {
		for ref := range r.plant.books.Truth(realm) {
			states := r.plant.books.History(ref)
			for i := range states {
				states[i].Raw = nil
			}
			all = append(all, record{sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}, states})
		}
	}
	for name, v := range map[string]any{"truth.json": all, "result.json": res} {
		if raw, err := json.MarshalIndent(v, "", " "); err == nil {
			_ = os.WriteFile(filepath.Join(r.dir, name), raw, 0o600) // a disk that is full is one more thing to look at
		}
	}
}
