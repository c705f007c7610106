package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink/webhook"
)

// endpointSecret signs what the feed posts.
const endpointSecret = "whsec_Y2hhb3MtZW5kcG9pbnQtc2VjcmV0LTQyNDI="

// mood is how the endpoint answers.
type mood int

const (
	willing   mood = iota
	failing        // 500, takes nothing
	leaving        // 410, takes nothing
	forgetful      // takes it and never answers
	refusing       // 422, takes nothing
)

// endpoint is the receiver of the HTTP sink. It logs to disk what it took before
// it says so, and keeps the newest version of each record, as a receiver should.
type endpoint struct {
	addr    string
	server  *http.Server
	ended   chan error
	journal *journal
	check   *standardwebhooks.Webhook

	mu    sync.Mutex // guards the rest
	mood  mood
	turns []time.Time // when the mood changed
	held  map[sink.Ref]sink.Row
	taken map[string]int    // deliveries by idempotency key
	keys  map[string]string // realm/entity/id/version → its key
	total int
	// odd are deliveries that should not be: unsigned, or one change under two keys.
	odd []string
	// backward are deliveries older than what was held.
	backward int
	firstAt  map[string]time.Time   // when the key was first taken
	newest   map[sink.Ref]string    // key that was taken last
	again    map[string][]time.Time // when the key was taken again
	// tombstones hears of what is held, unless it is nil.
	tombstones *tombstones
}

func newEndpoint(ctx context.Context, j *journal) (*endpoint, error) {
	check, err := standardwebhooks.NewWebhook(endpointSecret)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		addr: l.Addr().String(), ended: make(chan error, 1), journal: j, check: check,
		held: map[sink.Ref]sink.Row{}, taken: map[string]int{}, keys: map[string]string{}, firstAt: map[string]time.Time{},
		newest: map[sink.Ref]string{}, again: map[string][]time.Time{},
	}
	e.server = &http.Server{Handler: http.HandlerFunc(e.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { e.ended <- e.server.Serve(l) }()
	return e, nil
}

// watch has t hear of what is held from now on.
func (e *endpoint) watch(t *tombstones) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tombstones = t
}

func (e *endpoint) set(m mood) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mood != m {
		e.turns = append(e.turns, time.Now())
	}
	e.mood = m
}

// turned are the times at which it began to fail, or to take changes again.
func (e *endpoint) turned() []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]time.Time(nil), e.turns...)
}

func (e *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		return // the sender went away: nothing was taken
	}
	e.mu.Lock()
	m := e.mood
	e.mu.Unlock()
	switch m {
	case failing:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case leaving:
		w.WriteHeader(http.StatusGone)
		return
	case refusing:
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	if err := e.take(r.Header, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if m == forgetful {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take keeps what was delivered.
func (e *endpoint) take(h http.Header, body []byte) error {
	id := h.Get(standardwebhooks.HeaderWebhookID)
	if err := e.check.Verify(body, h); err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.odd = append(e.odd, "delivery "+id+" is not signed: "+err.Error())
		return err
	}
	var event webhook.Event
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	record, err := event.Record()
	if err != nil {
		return err
	}
	now := time.Now()
	e.journal.write(struct {
		At      time.Time `json:"at"`
		ID      string    `json:"id"`
		Key     string    `json:"key"`
		Deleted bool      `json:"deleted"`
		Learned string    `json:"learned"`
	}{now.UTC(), id, record.Key, record.Deleted, record.Learned})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.total++
	key := record.Key
	if record.Learned == "restored" {
		key += "/" + record.EventID // the same state, told once more because of a wrong tombstone
	}
	held, ok := e.held[record.Ref]
	// A state that comes back at a version that other documents have had is told again:
	// a late replica has shown the one before in between.
	back := e.newest[record.Ref] != id && ok && held.Version == record.Version
	if e.taken[id] > 0 && !back {
		e.again[id] = append(e.again[id], now)
	}
	if !back || e.taken[id] == 0 {
		e.taken[id]++
	}
	e.newest[record.Ref] = id
	if _, ok := e.firstAt[key]; !ok {
		e.firstAt[key] = now
	}
	if other, ok := e.keys[key]; ok && other != id || id != event.ID {
		e.odd = append(e.odd, "change "+key+" came under the keys "+other+", "+id+" and "+event.ID)
	}
	e.keys[key] = id
	if len(record.Document) > 0 && qbo.ContentHash(record.Document) != record.ContentHash {
		e.odd = append(e.odd, "change "+key+" has another document than its hash says")
	}
	switch {
	case !ok || record.Supersedes(held):
		e.held[record.Ref] = record.Row()
		if e.tombstones != nil {
			e.tombstones.saw(sinkPost, record.Ref, record.Deleted, now)
		}
	case record.Version < held.Version:
		e.backward++
	}
	return nil
}

// rows are what a receiver that keeps the newest state holds.
func (e *endpoint) rows() map[sink.Ref]sink.Row {
	e.mu.Lock()
	defer e.mu.Unlock()
	held := make(map[sink.Ref]sink.Row, len(e.held))
	for ref, row := range e.held {
		held[ref] = row
	}
	return held
}

func (e *endpoint) row(ref sink.Ref) sink.Row {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[ref]
}

// repeats are how many deliveries there were beyond the first of each key, and
// the most of one key.
func (e *endpoint) repeats() (repeats, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.taken {
		repeats += n - 1
		most = max(most, n)
	}
	return repeats, most
}

func (e *endpoint) oddities() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.odd...)
}

func (e *endpoint) close() error {
	err := e.server.Close()
	<-e.ended //nolint:errcheck // it says that it was closed
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.total
}

// repeated are the times at which changes came again, by key.
func (e *endpoint) repeated() map[string][]time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make(map[string][]time.Time, len(e.again))
	for id, at := range e.again {
		all[id] = append([]time.Time(nil), at...)
	}
	return all
}
