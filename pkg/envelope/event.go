package envelope

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// realmEvents are the events of one realm, in the order of the body.
type realmEvents struct {
	id     string
	events []*ledgerfeedv1.Event
}

// byRealm sorts events by realm, in the order the realms first appear. What it
// returns lies in a few blocks of memory instead of three for each event.
func byRealm(events []webhook.Event) []realmEvents {
	place := map[string]int{}
	var realms []realmEvents
	var counts []int
	for i := range events {
		id := events[i].RealmID
		at, ok := place[id]
		if !ok {
			at = len(realms)
			place[id] = at
			realms = append(realms, realmEvents{id: id})
			counts = append(counts, 0)
		}
		counts[at]++
	}
	room := make([]*ledgerfeedv1.Event, len(events))
	for at, n := range counts {
		realms[at].events, room = room[:0:n], room[n:]
	}
	messages := make([]ledgerfeedv1.Event, len(events))
	times := make([]timestamppb.Timestamp, len(events))
	for i := range events {
		e := &events[i]
		fill(&messages[i], &times[i], e)
		r := &realms[place[e.RealmID]]
		r.events = append(r.events, &messages[i])
	}
	return realms
}

// fill makes out the message of e; at is for its time.
func fill(out *ledgerfeedv1.Event, at *timestamppb.Timestamp, e *webhook.Event) {
	out.Id = e.ID
	out.Entity = e.Entity
	out.EntityId = e.EntityID
	out.Operation = e.Operation
	out.MergedId = e.MergedID
	out.OperationName = e.OperationName
	if e.OccurredAt.IsZero() {
		return
	}
	at.Seconds, at.Nanos = e.OccurredAt.Unix(), int32(e.OccurredAt.Nanosecond())
	// A time protobuf cannot hold is no time: the event is then always read.
	if at.IsValid() {
		out.OccurredAt = at
	}
}
