package chaos

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// front is the load balancer before the ingresses. It knows each body that was
// answered, by whom, when, and with what.
type front struct {
	url      string
	server   *http.Server
	ended    chan error
	journal  *journal
	client   *http.Client
	replicas []string // where each is reached, through its proxy

	mu       sync.Mutex // guards the rest
	turn     int
	answered []answered
	statuses map[int]int
	claimed  map[sink.Ref]bool // a webhook says that the record is gone
}

// answered is a body that an ingress answered 200.
type answered struct {
	at        time.Time
	envelopes []string // ids
	events    []webhook.Event
}

func newFront(ctx context.Context, replicas []string, j *journal) (*front, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &front{
		url: "http://" + l.Addr().String() + "/webhooks/" + app, ended: make(chan error, 1), journal: j, replicas: replicas,
		// Intuit waits three seconds for an answer.
		client:   &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 10 * time.Second}},
		statuses: map[int]int{}, claimed: map[sink.Ref]bool{},
	}
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve), ReadHeaderTimeout: 5 * time.Second}
	go func() { f.ended <- f.server.Serve(l) }()
	return f, nil
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.WriteHeader(f.deliver(r.Context(), r.Header, body))
}

// deliver gives a body to one replica, and to the next if that one cannot be
// reached, and returns the status.
func (f *front) deliver(ctx context.Context, h http.Header, body []byte) int {
	f.mu.Lock()
	turn := f.turn
	f.turn++
	f.mu.Unlock()
	for i := range f.replicas {
		status, err := f.post(ctx, f.replicas[(turn+i)%len(f.replicas)], h, body)
		if err == nil {
			f.note(status, body)
			return status
		}
	}
	f.note(http.StatusBadGateway, body)
	return http.StatusBadGateway
}

func (f *front) post(ctx context.Context, addr string, h http.Header, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/webhooks/"+app, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = h.Clone()
	resp, err := f.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

func (f *front) note(status int, body []byte) {
	now := time.Now()
	a := answered{at: now}
	// What a body says, and which messages it makes, is the contract of the stream
	// (docs/architecture.md); that they are stored is what is judged.
	n, err := webhook.Parse(body)
	if err == nil {
		a.events = n.Events
		for _, env := range envelope.FromNotification(body, n, envelope.Meta{App: app, ReceivedAt: now}) {
			id := env.GetId()
			if slices.ContainsFunc(n.Events, webhook.Event.Derived) {
				id = contentName(env)
			}
			a.envelopes = append(a.envelopes, id)
		}
	}
	f.journal.write(struct {
		At        time.Time       `json:"at"`
		Status    int             `json:"status"`
		Envelopes []string        `json:"envelopes"`
		Events    []webhook.Event `json:"events"`
	}{now.UTC(), status, a.envelopes, a.events})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[status]++
	for _, e := range a.events {
		switch e.Operation {
		case ledgerfeedv1.Operation_OPERATION_DELETE:
			f.claimed[sink.Ref{Realm: e.RealmID, Entity: e.Entity, ID: e.EntityID}] = true
		case ledgerfeedv1.Operation_OPERATION_MERGE:
			f.claimed[sink.Ref{Realm: e.RealmID, Entity: e.Entity, ID: e.MergedID}] = true
		}
	}
	if status == http.StatusOK {
		f.answered = append(f.answered, a)
	}
}

// forge posts a body nobody signed, and a signed one that was altered after. Both
// must be refused; it returns the statuses, 0 for no answer.
func (f *front) forge(ctx context.Context, body []byte) []int {
	var statuses []int
	altered := bytes.Replace(body, []byte(`"forged`), []byte(`"f0rged`), 1)
	for i, h := range []http.Header{
		{"Intuit-Signature": {webhook.Sign(body, secret.String("not-the-token"))}, "Content-Type": {"application/json"}},
		{"Intuit-Signature": {webhook.Sign(body, verifierToken)}, "Content-Type": {"application/json"}},
	} {
		sent := [][]byte{body, altered}[i]
		status, err := f.post(ctx, f.replicas[i%len(f.replicas)], h, sent)
		if err != nil {
			status = 0
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// all are the bodies that were answered 200.
func (f *front) all() []answered {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]answered(nil), f.answered...)
}

// count is how often a status was answered.
func (f *front) count(status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[status]
}

// refused are the answers 4xx to bodies that were signed well.
func (f *front) refused() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for status, count := range f.statuses {
		if status >= 400 && status < 500 {
			n += count
		}
	}
	return n
}

func (f *front) close() error {
	err := f.server.Close()
	<-f.ended //nolint:errcheck // it says that it was closed
	f.client.CloseIdleConnections()
	return err
}

// claims reports whether a webhook has said that a record is gone.
func (f *front) claims(ref sink.Ref) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.claimed[ref]
}
