package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

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
	noted, err := r.plant.noted(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	for _, m := range missing {
		// A record that went before it could be read, and no webhook tells of that: two scans
		// must not find it before its event is a dead letter.
		if !m.gone || !noted[m.ref] {
			wrong = append(wrong, m.text)
		}
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
	gone bool      // the record is deleted by now, and the sink has never had it
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
			left := r.effects.loses || r.plant.connectedAfter(ctx, e.RealmID, a.at) // to a scan
			for name, held := range map[string]map[sink.Ref]sink.Row{sinkTable: table, sinkPost: post} {
				if dead.excuse(ref, name) || left && (!mustHold(ref, gone, held[ref]) || gone && held[ref].Version == 0 && untold[ref]) {
					continue
				}
				if row := held[ref]; !r.plant.books.shows(ref, row, want) {
					missing = append(missing, missingEvent{ref, a.at, gone && row.Version == 0, fmt.Sprintf("answered 200 at %s: realm %s %s %s at %s is version %d or more, and the sink %s has %d",
						a.at.UTC().Format("15:04:05.000"), ref.Realm, ref.Entity, ref.ID, e.OccurredAt.Format(time.RFC3339Nano), want.Version, name, row.Version)})
				}
			}
		}
	}
	return missing, strangers, len(seen) > 0, nil
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
