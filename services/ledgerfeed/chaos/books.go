package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

const (
	app           = "chaos"
	clientID      = "chaos-client"
	clientSecret  = "chaos-client-secret-f3b1c2"
	verifierToken = "chaos-verifier-token-7a90de"
	redirectURL   = "http://127.0.0.1/callback"

	// retryScale turns Intuit's first retry after 10 s into one after 200 ms.
	retryScale = 0.02
)

// books are a simulated QuickBooks behind a server that counts by the real clock.
type books struct {
	*qbosim.Sim
	url    string
	addr   string
	server *http.Server
	ended  chan error

	mu      sync.Mutex // guards the rest
	meters  map[string]*meter
	secrets map[string]bool // tokens that were given out
	faults  qbosim.Faults   // as the run wants them
	// refreshing are the tokens that refreshes under way are made with, shared counts
	// those that were used by two at the same time.
	refreshing map[string]int
	shared     int
	// hidden are the spans, by Intuit's clock, in which the API may not have shown
	// records that were there.
	hidden []hiding
	// forged are records that a webhook said were deleted and that never were.
	forged map[qbosim.Ref]bool
	hashes map[qbosim.Ref]hashed
	// asked are the spans that CDC was asked for, by realm.
	asked map[string][]cdcCall
	// unshown are records that some answer did not show though they were there.
	unshown map[qbosim.Ref]bool
	speed   float64                   // of Intuit's clock, as against ours
	now     func() time.Time          // Intuit's clock
	at      func(time.Time) time.Time // Intuit's clock at a time by ours
}

// tokenLatency is how long the token endpoint takes.
const tokenLatency = 100 * time.Millisecond

// meter counts the calls of a realm by the real clock.
type meter struct {
	calls         []time.Time
	inFlight      int
	total         int
	maxPerMinute  int
	maxConcurrent int
	crowdedAt     time.Time // the first time there were as many
}

// Intuit's limits, of a realm.
const (
	allowedPerMinute  = 500
	allowedConcurrent = 10
)

// newBooks serves books whose clock runs speed times as fast as ours, so that the
// margins of cursors, two minutes and ten, pass within a short run.
func newBooks(ctx context.Context, seed uint64, speed float64) (*books, error) {
	begun := time.Now()
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) * speed) }
	at := func(t time.Time) time.Time { return begun.Add(scaled(t.Sub(begun))) }
	now := func() time.Time { return at(time.Now()) }
	sim, err := qbosim.New(qbosim.Options{
		Seed: seed, Now: now,
		VerifierToken: verifierToken, Format: qbosim.Mixed, Aggregate: 50 * time.Millisecond, RetryScale: retryScale,
		ClientID: clientID, ClientSecret: clientSecret, RedirectURLs: []string{redirectURL},
		// Short, so that tokens are refreshed and replaced many times in a run.
		AccessTokenTTL: scaled(20 * time.Second), RotateEvery: scaled(30 * time.Second),
		// By its own clock the simulator would allow too much; the meters judge.
		Limits: qbosim.Limits{PerMinute: 500},
	})
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, sim.Close())
	}
	b := &books{
		Sim: sim, addr: l.Addr().String(), url: "http://" + l.Addr().String(), ended: make(chan error, 1),
		meters: map[string]*meter{}, secrets: map[string]bool{}, refreshing: map[string]int{}, forged: map[qbosim.Ref]bool{}, hashes: map[qbosim.Ref]hashed{}, asked: map[string][]cdcCall{}, unshown: map[qbosim.Ref]bool{}, speed: speed, now: now, at: at,
	}
	b.server = &http.Server{Handler: http.HandlerFunc(b.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { b.ended <- b.server.Serve(l) }()
	return b, nil
}

func (b *books) serve(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v3/company/"); ok {
		realm, _, _ := strings.Cut(rest, "/")
		b.enter(realm)
		b.noteCDC(realm, r.URL)
		defer b.leave(realm)
	}
	if r.URL.Path == "/oauth2/v1/tokens/bearer" {
		b.tokens(w, r)
		return
	}
	b.Handler().ServeHTTP(w, r)
}

// tokens passes a refresh on, notes whether another one is made with the same token
// at the same time, and keeps what it answers, to look for in logs.
func (b *books) tokens(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("refresh_token") != "" {
		token := form.Get("refresh_token")
		b.mu.Lock()
		b.refreshing[token]++
		if b.refreshing[token] > 1 {
			b.shared++
		}
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refreshing[token]--
		}()
	}
	if lifecycle.Sleep(r.Context(), tokenLatency) != nil {
		return
	}
	answer := &overheard{ResponseWriter: w, status: http.StatusOK}
	b.Handler().ServeHTTP(answer, r)
	said := b.overhear(answer.said.Bytes())
	w.Header().Set("Content-Length", strconv.Itoa(len(said)))
	w.WriteHeader(answer.status)
	_, _ = w.Write(said) // the caller may be gone
}

// overhear notes the tokens of an answer, and says by our clock when they end: by Intuit's,
// which is faster here, each would end long before a service expects it.
func (b *books) overhear(said []byte) []byte {
	var given map[string]any
	if json.Unmarshal(said, &given) != nil {
		return said
	}
	b.mu.Lock()
	for _, name := range []string{"access_token", "refresh_token"} {
		if token, _ := given[name].(string); token != "" {
			b.secrets[token] = true
		}
	}
	b.mu.Unlock()
	if left, ok := given["expires_in"].(float64); ok {
		given["expires_in"] = int(left / b.speed)
	}
	ours, err := json.Marshal(given)
	if err != nil {
		return said
	}
	return ours
}

// overheard holds back what is answered.
type overheard struct {
	http.ResponseWriter
	status int
	said   bytes.Buffer
}

func (o *overheard) WriteHeader(status int) { o.status = status }

func (o *overheard) Write(data []byte) (int, error) { return o.said.Write(data) }

func (b *books) enter(realm string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.meters[realm]
	if m == nil {
		m = &meter{}
		b.meters[realm] = m
	}
	for len(m.calls) > 0 && now.Sub(m.calls[0]) >= time.Minute {
		m.calls = m.calls[1:]
	}
	m.calls = append(m.calls, now)
	m.total++
	m.inFlight++
	m.maxPerMinute = max(m.maxPerMinute, len(m.calls))
	if m.inFlight > m.maxConcurrent {
		m.maxConcurrent, m.crowdedAt = m.inFlight, now
	}
}

func (b *books) leave(realm string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meters[realm].inFlight--
}

// most are the highest figures of any realm, and when there were as many at once.
func (b *books) most() (perMinute, concurrent int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.meters {
		perMinute = max(perMinute, m.maxPerMinute)
		if m.maxConcurrent > concurrent {
			concurrent, at = m.maxConcurrent, m.crowdedAt
		}
	}
	return perMinute, concurrent, at
}

func (b *books) calls(realm string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.meters[realm]; m != nil {
		return m.total
	}
	return 0
}

func (b *books) sharedTokens() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shared
}

// given are the tokens that were given out.
func (b *books) given() (tokens []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.secrets {
		tokens = append(tokens, t)
	}
	return tokens
}

// alter changes the faults in force: several may be at the same time.
func (b *books) alter(change func(*qbosim.Faults)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.faults)
	b.SetFaults(b.faults)
	lag := b.faults.ReadLag + b.faults.ReplicaLag
	open := len(b.hidden) > 0 && b.hidden[len(b.hidden)-1].to.IsZero()
	switch {
	case open && lag == 0:
		b.hidden[len(b.hidden)-1].to = b.now()
	case open:
		b.hidden[len(b.hidden)-1].lag = max(b.hidden[len(b.hidden)-1].lag, lag)
	case lag > 0:
		b.hidden = append(b.hidden, hiding{from: b.now(), lag: lag})
	}
}

// hiding is a span, by Intuit's clock, in which answers were late by up to lag; to is
// zero until it is over.
type hiding struct {
	from, to time.Time
	lag      time.Duration
}

// mayHide reports whether some answer may not have shown a record that was made then.
func (b *books) mayHide(made time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hidden {
		// LastUpdatedTime has whole seconds.
		if made.After(h.from.Add(-h.lag-2*time.Second)) && (h.to.IsZero() || !made.After(h.to)) {
			return true
		}
	}
	return false
}

// forge has a webhook say that a record was deleted; the zero time is now.
func (b *books) forge(ref qbosim.Ref, at time.Time) error {
	b.mu.Lock()
	b.forged[ref] = true
	b.mu.Unlock()
	return b.ForgeDelete(ref, at)
}

// neverWas reports whether a webhook has said of a record that it was deleted, and there
// is none.
func (b *books) neverWas(ref sink.Ref) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.forged[qbosim.Ref{Realm: ref.Realm, Entity: ref.Entity, ID: ref.ID}]
}

// found makes a realm with a few records that are older than its connection.
func (b *books) found(realm string) error {
	b.AddRealm(realm)
	for _, name := range []string{"Customer", "Customer", "Vendor", "Item", "Item", "Invoice", "Invoice", "Bill", "TimeActivity"} {
		if _, err := b.Create(realm, name, nil); err != nil {
			return fmt.Errorf("fill the books of realm %s: %w", realm, err)
		}
	}
	return nil
}

func (b *books) close() error {
	err := b.server.Close()
	<-b.ended //nolint:errcheck // it says that it was closed
	return errors.Join(err, b.Close())
}

var connectionKey = secret.String("chaos:" + "CzBVep/E6Q4zWH2ix+wRNluApcrvFDleg6jN8hc8YYY=")
