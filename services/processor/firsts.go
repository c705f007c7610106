package processor

import (
	"cmp"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// maxFirsts bounds what is remembered: a text of some 100 bytes for each message
// that waits for its next try.
const maxFirsts = 16 << 10

// firsts are the first errors of messages that were put off. A message on a
// stream cannot be written to, so a replica that has not put it off itself does
// not know why another one has.
type firsts struct {
	errs *lru.Cache[string, string] // by stream.Message.ID
}

func newFirsts() (firsts, error) {
	errs, err := lru.New[string, string](maxFirsts)
	return firsts{errs}, err
}

// note keeps why m is put off if it is the first time.
func (f firsts) note(m *message, err error) { f.errs.ContainsOrAdd(m.ID(), err.Error()) }

// forget is for a message that is done with.
func (f firsts) forget(m *message) { f.errs.Remove(m.ID()) }

// history is what m has behind it, now that it failed with last.
func (f firsts) history(m *message, last string) stream.History {
	first, _ := f.errs.Get(m.ID())
	return stream.History{
		Attempts: m.Attempts(), FirstSeen: m.FirstSeen(),
		FirstError: cmp.Or(m.History().FirstError, first, last),
	}
}

// failure is why a sink did not take a change of m.
func (m *message) failure(sink int) string {
	for _, u := range m.units {
		for _, f := range u.failed {
			if f.sink == sink {
				return f.err.Error()
			}
		}
	}
	return ""
}
