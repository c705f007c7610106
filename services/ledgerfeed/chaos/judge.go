package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
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

// askWait bounds how long a broker may take to show all dead letters, on a busy
// machine that has just been through everything.
const askWait = 2 * time.Minute

// letters are the dead letters there are.
type letters struct {
	// of are the sinks that a letter of the record is of; "" is all of them.
	of map[sink.Ref]map[string]bool
	// strangers counts the letters that only say that a company is not connected.
	strangers map[string]int
}

// excuse reports whether a letter says that the sink did not get the record.
func (l letters) excuse(ref sink.Ref, name string) bool { return l.of[ref][""] || l.of[ref][name] }

// dead are the dead letters there are.
func (p *plant) dead(ctx context.Context) (all letters, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for {
		if all, err = p.readDead(ctx); err == nil || lifecycle.Sleep(ctx, poll) != nil {
			return all, err
		}
	}
}

func (p *plant) readDead(ctx context.Context) (letters, error) {
	all := letters{of: map[sink.Ref]map[string]bool{}, strangers: map[string]int{}}
	err := p.conn.EachDead(ctx, stream.DeadFilter{}, func(d stream.DeadLetter) error {
		for ref := range refsOf(d) {
			if all.of[ref] == nil {
				all.of[ref] = map[string]bool{}
			}
			all.of[ref][d.Sink] = true
		}
		if d.Reason == stream.ReasonRealmNotConnected && slices.ContainsFunc(d.Envelope.GetEvents(), told) {
			all.strangers[d.RealmID]++
		}
		return nil
	})
	return all, err
}

// told reports whether a load tells of the event, should its company be connected.
func told(e *ledgerfeedv1.Event) bool {
	return e.GetOperation() != ledgerfeedv1.Operation_OPERATION_DELETE || listed(e.GetEntity())
}

// judgeEvents looks for each event of each body that was answered 200 (I2).
func (r *run) judgeEvents(ctx context.Context) error {
	missing, strangers, judged, err := r.missingEvents(ctx)
	if err != nil {
		return err
	}
	dead, err := r.plant.dead(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	for _, m := range missing {
		wrong = append(wrong, m.text)
	}
	// A letter may be lost with the broker's tail or with the process that was about to
	// store it, and the next one comes tomorrow.
	if strangers > 0 && len(dead.strangers) == 0 && !r.effects.loses && !r.effects.fills {
		wrong = append(wrong, fmt.Sprintf("no dead letter tells of %d events of companies that are not connected", strangers))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judgedI2 = judged
	r.unanswered = append(r.unanswered, wrong...)
	return nil
}

// missingEvent is an event that a sink does not show.
type missingEvent struct {
	ref  sink.Ref
	at   time.Time // when it was answered 200
	text string
}

// missingEvents are the events of bodies that were answered 200 that a sink does not
// show, nor a dead letter.
func (r *run) missingEvents(ctx context.Context) (missing []missingEvent, strangers int, judged bool, err error) {
	table, err := r.plant.database.rows(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	post := r.plant.endpoint.rows()
	dead, err := r.plant.dead(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	parked := map[string]bool{}
	for _, realm := range r.plant.realms {
		c, err := r.plant.connections.Get(ctx, realm)
		if err != nil {
			return nil, 0, false, err
		}
		parked[realm] = c.State != connection.Live
	}
	r.mu.Lock()
	purged := maps.Clone(r.purged)
	r.mu.Unlock()
	seen, untold := map[string]bool{}, r.cursors.leftOut()
	for _, a := range r.plant.front.all() {
		for _, e := range a.events {
			ref := sink.Ref{Realm: e.RealmID, Entity: e.Entity, ID: e.EntityID}
			key := fmt.Sprint(ref, e.OccurredAt)
			if seen[key] || parked[e.RealmID] || purged[ref] || r.plant.books.neverWas(ref) {
				continue
			}
			if _, ours := parked[e.RealmID]; !ours {
				strangers++
				continue // one letter a day tells of a company that is not connected
			}
			seen[key] = true
			want, gone := r.plant.books.least(ref, e)
			left := r.effects.loses || r.plant.connectedAfter(e.RealmID, a.at) // to a scan
			for name, held := range map[string]map[sink.Ref]sink.Row{sinkTable: table, sinkPost: post} {
				if dead.excuse(ref, name) || left && (!mustHold(ref, gone, held[ref]) || gone && held[ref].Version == 0 && untold[ref]) {
					continue
				}
				if row := held[ref]; !r.plant.books.shows(ref, row, want) {
					missing = append(missing, missingEvent{ref, a.at, fmt.Sprintf("answered 200 at %s: realm %s %s %s at %s is version %d or more, and the sink %s has %d",
						a.at.UTC().Format("15:04:05.000"), ref.Realm, ref.Entity, ref.ID, e.OccurredAt.Format(time.RFC3339Nano), want.Version, name, row.Version)})
				}
			}
		}
	}
	return missing, strangers, len(seen) > 0, nil
}

// missingOfLapse are the records that were changed last before their company was connected
// again, and that the table does not show: no webhook was sent of them, or one was
// acknowledged and left to the scan that follows.
func (r *run) missingOfLapse(ctx context.Context) (missing []missingEvent, err error) {
	table, err := r.plant.database.rows(ctx)
	if err != nil {
		return nil, err
	}
	for _, realm := range r.plant.realms {
		if !r.plant.connectedAfter(realm, r.loadBegun) {
			continue
		}
		last, _ := r.plant.consents.Load(realm)
		before := r.plant.books.at(last.(time.Time)).Add(-time.Second)
		for ref, want := range r.plant.books.Truth(realm) {
			of := sink.Ref{Realm: realm, Entity: ref.Entity, ID: ref.ID}
			if !want.LastUpdated.Before(before) || want.Deleted || r.plant.books.shows(of, table[of], want) {
				continue
			}
			missing = append(missing, missingEvent{ref: of, text: fmt.Sprintf(
				"realm %s %s %s is version %d, the sink table has %d, and its company was connected again since", realm, ref.Entity, ref.ID, want.Version, table[of].Version)})
		}
	}
	return missing, nil
}

// followedWithin is how soon a read that was older than its event must be made again:
// the company is due two minutes after it.
const followedWithin = 2*time.Minute + 30*time.Second

// judgeFollowed looks whether what a late read did not show, or what was acknowledged
// while a company was not connected, is followed up within minutes, and not left to the
// scan of the next day (I2).
func (r *run) judgeFollowed(ctx context.Context) error {
	missing, _, judged, err := r.missingEvents(ctx)
	if err != nil {
		return err
	}
	if !r.effects.hides { // a late replica need not have shown it to the scan that followed
		lapsed, err := r.missingOfLapse(ctx)
		if err != nil {
			return err
		}
		missing = append(missing, lapsed...)
	}
	var wrong []string
	noted := map[sink.Ref]bool{}
	for _, realm := range r.plant.realms {
		all, err := r.plant.state.FollowUps(ctx, realm)
		if err != nil {
			return err
		}
		for _, f := range all {
			noted[sink.Ref{Realm: realm, Entity: f.Entity, ID: f.ID}] = true
		}
	}
	for _, m := range missing {
		due, err := r.plant.state.Due(ctx, m.ref.Realm)
		if err != nil {
			return err
		}
		wait := time.Until(due)
		switch {
		case wait > followedWithin:
			wrong = append(wrong, fmt.Sprintf("%s, and its company is scanned in %s only", m.text, wait.Round(time.Second)))
		case !noted[m.ref] && !r.plant.connectedAfter(m.ref.Realm, m.at):
			wrong = append(wrong, m.text+", and nothing is noted for the next scan")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.judgedI2 = r.judgedI2 || judged && len(wrong) > 0
	r.unanswered = append(r.unanswered, wrong...)
	return nil
}

// least is the first state the record can have had when the event happened: of
// several changes within its second the event may be any. gone says that it is deleted
// by now.
func (b *books) least(ref sink.Ref, e webhook.Event) (first qbosim.State, gone bool) {
	history := b.History(qbosim.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID})
	gone = len(history) > 0 && history[len(history)-1].Deleted
	for _, s := range history {
		if s.LastUpdated.Unix() == e.OccurredAt.Unix() {
			return s, gone
		}
	}
	return qbosim.State{Version: 1}, gone
}

// shows reports whether a sink has the state or a later one. Its version tells as long as
// time does not go back; else the document does.
func (b *books) shows(ref sink.Ref, row sink.Row, want qbosim.State) bool {
	switch {
	case row.Version == 0:
		return false
	case row.Deleted, row.Version >= want.Version:
		return true
	}
	history := b.History(qbosim.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID})
	return slices.ContainsFunc(history[min(max(want.Revision-1, 0), len(history)):], func(s qbosim.State) bool {
		return !s.Deleted && qbo.ContentHash(s.Raw) == row.ContentHash
	})
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
		res.Notes = append(res.Notes, "not permitted on this machine: "+strings.Join(slices.Compact(slices.Sorted(slices.Values(r.unfit))), ", "))
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

func (r *run) judgeI1(res *Result) {
	var early []string
	answered := r.plant.front.all()
	for _, a := range answered {
		for _, id := range a.envelopes {
			if !r.plant.acks.before(id, a.at) {
				early = append(early, fmt.Sprintf("a body was answered 200 at %s before the broker had acknowledged its message %s", a.at.UTC().Format("15:04:05.000"), id))
			}
		}
	}
	res.find("I1", len(answered) > 0, early...)
}

func (r *run) judgeI3(res *Result, backward int, mislabelled []string) {
	wrong := mislabelled
	if backward > 0 {
		wrong = append(wrong, fmt.Sprintf("in the table the version of a record went back %d times", backward))
	}
	for _, name := range []string{sinkTable, sinkPost} {
		for when, d := range map[string]difference{"before the full load": r.before[name], "at the end": r.differs[name]} {
			if !d.equal() {
				wrong = append(wrong, fmt.Sprintf("%s the sink %s has %s", when, name, d))
				wrong = append(wrong, some(d.examples)...)
			}
		}
	}
	res.find("I3", true, wrong...)
}

// judgeI4 is I4 and I8: a scan that is cut off or fails must not move a cursor past
// what it has not seen.
func (r *run) judgeI4(res *Result, dead letters) {
	all, moves := r.cursors.verdict()
	var wrong []string
	for _, w := range all {
		// Of what the endpoint refused there was a letter when the cursor moved.
		if !dead.excuse(w.ref, w.sink) && (w.sink != sinkPost || !r.ended[w.ref]) {
			wrong = append(wrong, w.text)
		}
	}
	res.find("I4", moves > 0, wrong...)
	lost := r.plant.books.Stats().WebhookEventsDropped
	var unrepaired []string
	if len(wrong) > 0 {
		unrepaired = []string{"a cursor passed what no sink has, see I4"}
	} else if res.Lost+res.Stale > 0 && lost > 0 {
		unrepaired = []string{"webhooks were lost and not repaired, see I3"}
	}
	res.find("I8", lost > 0, unrepaired...)
}

func (r *run) judgeI5(res *Result, doubles int) {
	wrong := r.plant.endpoint.oddities()
	if doubles > 0 {
		wrong = append(wrong, fmt.Sprintf("the change log of the table holds %d versions twice", doubles))
	}
	repeats, most := r.plant.endpoint.repeats()
	res.Duplicate = repeats
	turns := len(r.plant.turns())
	if allowed := 1 + r.disrupted + turns; most > allowed {
		wrong = append(wrong, fmt.Sprintf("one change was delivered %d times, with %d faults that may repeat one and %d starts and ends of processors and failures of the endpoint", most, r.disrupted, turns))
	}
	res.find("I5", r.plant.endpoint.count() > 0, wrong...)
}

func (r *run) judgeLimits(res *Result) {
	var wrong []string
	if res.perMinute > allowedPerMinute {
		wrong = append(wrong, fmt.Sprintf("a realm had %d calls within 60 s", res.perMinute))
	}
	if res.concurrent > allowedConcurrent {
		wrong = append(wrong, fmt.Sprintf("a realm had %d calls at once, first at %s", res.concurrent, res.crowdedAt.UTC().Format("15:04:05.000")))
	}
	res.find("I6", res.perMinute > 0, wrong...)
}

func (r *run) judgeTokens(ctx context.Context, res *Result) {
	stats := r.plant.books.Stats()
	var wrong []string
	if n := stats.RefreshReplays; n > 0 && !r.effects.forgets && !r.effects.repeats {
		wrong = append(wrong, fmt.Sprintf("%d refreshes were made with a token that had been replaced, and nothing had crashed", n))
	}
	if n := r.plant.books.sharedTokens(); n > 0 && !r.effects.forgets {
		wrong = append(wrong, fmt.Sprintf("%d refreshes were made while another one was under way with the same token", n))
	}
	wrong = append(wrong, r.refreshed...)
	for _, realm := range r.plant.realms {
		c, err := r.plant.connections.Get(ctx, realm)
		if err != nil || c.State != connection.Live {
			wrong = append(wrong, fmt.Sprintf("realm %s has lost its authorisation: %s %v", realm, c.Reason, err))
		}
	}
	res.find("I7", stats.Refreshes > 0, wrong...)
}

func (r *run) judgeForgeries(res *Result, dead letters) {
	wrong := slices.Clone(r.forgeries)
	for ref := range dead.of {
		if strings.Contains(ref.ID, "rged") {
			wrong = append(wrong, "a forged event is among the dead letters: "+ref.ID)
		}
	}
	if n := r.plant.front.refused(); n > 0 && !r.effects.corrupts {
		wrong = append(wrong, fmt.Sprintf("%d bodies that were signed well were answered 4xx", n))
	}
	res.find("I10", r.forged > 0, wrong...)
}

func (r *run) judgeI11(res *Result) {
	var wrong []string
	for _, one := range r.plant.replicas() {
		for _, c := range one.crashes() {
			// 3: a server it needs does not answer; 1: it ended in the middle of the
			// start; 2: a broker that stands still does not say how it syncs, which looks
			// like a wrong configuration.
			silent := c.code == 2 && r.made["pause-broker"]
			if c.code != 3 && c.code != 1 && !silent {
				wrong = append(wrong, fmt.Sprintf("%s ended by itself with code %d at %s", one.name, c.code, c.at.UTC().Format("15:04:05")))
			}
		}
		if log, err := os.ReadFile(one.log); err == nil {
			for _, sign := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
				if bytes.Contains(log, []byte(sign)) {
					wrong = append(wrong, fmt.Sprintf("the log of %s holds %q", one.name, sign))
				}
			}
		}
	}
	for _, name := range []string{sinkTable, sinkPost} {
		if !r.differs[name].equal() || !r.before[name].equal() {
			wrong = append(wrong, fmt.Sprintf("the sink %s is not as the books %s after the last fault", name, r.o.Settle))
		}
	}
	if r.undrained != "" && !r.effects.withholds {
		wrong = append(wrong, r.undrained)
	}
	res.find("I11", r.faults > 0, wrong...)
}

// judgeI12 bounds the calls: those of the company where nothing changes by the
// scans there can have been, those of the others by their changes as well.
func (r *run) judgeI12(res *Result) {
	scans := 10 // the load of a new company
	if r.scans < never {
		scans += int(res.took / r.scans)
	}
	for _, one := range r.plant.services["reconciler"] {
		scans += one.begun()
	}
	scans += int(res.took / (3 * time.Second)) // tried again while something failed, and at the end
	const ofScan, ofLoad = 6, 2
	load := 2 * ofLoad * len(entity.All()) // at the start, and at the end
	allowed := load + ofScan*scans
	var wrong []string
	if n := r.plant.books.calls(r.plant.quiet); n > allowed {
		wrong = append(wrong, fmt.Sprintf("the realm where nothing changes had %d calls, and %d would do", n, allowed))
	}
	for _, realm := range r.plant.realms {
		res.calls += r.plant.books.calls(realm)
	}
	if most := allowed*len(r.plant.realms) + 2*res.Changes; res.calls > most {
		wrong = append(wrong, fmt.Sprintf("%d changes took %d calls, and %d would do", res.Changes, res.calls, most))
	}
	res.find("I12", res.calls > 0, wrong...)
}

// judgeAfter is what shows only once everything has ended: I13 and I14.
func (r *run) judgeAfter(res *Result) {
	var wrong []string
	r.mu.Lock()
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.badEnds))) {
		wrong = append(wrong, name+" did not end well after SIGTERM")
	}
	if !r.effects.repeats && !r.effects.forgets && !r.effects.withholds && !r.effects.loses && r.plant.abrupt() == 0 {
		wrong = append(wrong, unturned(r.plant.endpoint.repeated(), r.plant.turns())...)
	}
	r.mu.Unlock()
	res.find("I13", true, wrong...)
	res.find("I14", true, r.plant.leaks()...)
	res.took = time.Since(r.begun)
}

// turnWait is how long after such a turn two replicas may hold messages of one record: its
// partition changes hands, and what the one has taken, or
// waits for, the other may be told as well by a webhook or a scan.
const turnWait = 30 * time.Second

// unturned are the deliveries that were repeated though no processor had just been
// started or ended, and the changes that were repeated more often than that happened.
func unturned(repeated map[string][]time.Time, turns []time.Time) (wrong []string) {
	for _, id := range slices.Sorted(maps.Keys(repeated)) {
		all := repeated[id]
		for _, at := range all {
			if !slices.ContainsFunc(turns, func(turn time.Time) bool { return !at.Before(turn) && at.Sub(turn) <= turnWait }) {
				wrong = append(wrong, fmt.Sprintf("%s was delivered again at %s, and no processor had been started or ended, nor the endpoint failed", id, at.UTC().Format("15:04:05.000")))
			}
		}
		if len(all) > len(turns) {
			wrong = append(wrong, fmt.Sprintf("%s was delivered %d times more, with %d starts and ends of processors and failures of the endpoint", id, len(all), len(turns)))
		}
	}
	return wrong
}

// turns are when processors were started or ended, and when the endpoint began to fail
// or to take changes again: what it did not take is on its retry queue, from which any
// replica takes it, and a scan may tell another one.
func (p *plant) turns() (all []time.Time) {
	all = p.endpoint.turned()
	for _, one := range p.services["processor"] {
		all = append(all, one.turned()...)
	}
	return all
}

// abrupt is how often a service did not end well though it was only asked to.
func (p *plant) abrupt() (n int) {
	for _, one := range p.replicas() {
		n += one.abruptly()
	}
	return n
}

// overtold are the companies that nobody connected of which more is told than one letter
// a day (I9): who fills the dead letters stops others.
func (r *run) overtold(dead letters) (wrong []string) {
	for _, realm := range slices.Sorted(maps.Keys(dead.strangers)) {
		// What Redis has forgotten, or a process that was killed, is told again.
		if n, most := dead.strangers[realm], 1+r.disrupted; n > most {
			wrong = append(wrong, fmt.Sprintf("%d dead letters tell of company %s, which is not connected, and %d would do", n, realm, most))
		}
	}
	return wrong
}

// judgeI15 is that of tombstones: see tombstones.go.
func (r *run) judgeI15(res *Result) {
	v := r.tombstones.verdict(time.Now())
	wrong := v.problems
	if res.WrongTombstones > 0 {
		wrong = append(wrong, fmt.Sprintf("%d records that are there are under tombstones at the end", res.WrongTombstones))
	}
	res.everWrong, res.longestWrong = v.ever, v.longest
	res.find("I15", v.tried, wrong...)
}

// leaks looks for secrets in what the services wrote.
func (p *plant) leaks() (found []string) {
	secrets := append(p.books.given(), clientSecret, verifierToken, endpointSecret, strings.TrimPrefix(connectionKey.Reveal(), "chaos:"))
	for _, one := range p.replicas() {
		log, err := os.ReadFile(one.log)
		if err != nil {
			found = append(found, "the log of "+one.name+" cannot be read: "+err.Error())
			continue
		}
		for _, s := range secrets {
			if bytes.Contains(log, []byte(s)) {
				found = append(found, fmt.Sprintf("the log of %s holds a secret that begins with %q", one.name, s[:4]))
			}
		}
	}
	return found
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
