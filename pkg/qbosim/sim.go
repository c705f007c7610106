package qbosim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Sim is a simulated QuickBooks. Its methods may be called from several
// goroutines; changes of one realm happen one after the other.
type Sim struct {
	seed         uint64
	now          func() time.Time
	log          *zap.Logger
	verifier     secret.String
	format       Format
	aggregate    time.Duration
	retryScale   float64
	clientID     string
	clientSecret secret.String
	others       []Client
	redirects    []string
	askConsent   bool
	requirePKCE  bool
	apart        bool // consents of one company
	limits       Limits
	accessTTL    time.Duration
	rotateEvery  time.Duration
	custom       int
	cdcFields    CDCFields

	journal *journal
	tokens  *tokens
	hooks   *hooks
	faults  atomic.Pointer[activeFaults]
	load    atomic.Pointer[time.Time] // when it began
	calls   atomic.Uint64             // answered so far: what they are drawn by
	oauth   atomic.Uint64             // calls to the token and revoke endpoints
	unknown atomic.Uint64             // events of SendUnknown so far
	// unselected are the event types that are not ticked in the portal.
	unselected atomic.Pointer[[]Unselected]
	handler    http.Handler

	mu     sync.RWMutex // guards realms
	realms map[string]*realm
}

// New returns a simulator that goes on from its journal. Close it.
func New(o Options) (*Sim, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("qbosim: %w", err)
	}
	s := &Sim{
		seed: o.Seed, now: o.Now, log: o.Logger, verifier: o.VerifierToken, format: o.Format,
		aggregate: o.Aggregate, retryScale: o.RetryScale, clientID: o.ClientID, clientSecret: o.ClientSecret, others: slices.Clone(o.OtherClients),
		redirects: slices.Clone(o.RedirectURLs), askConsent: o.AskConsent, requirePKCE: o.RequirePKCE, limits: o.Limits, accessTTL: o.AccessTokenTTL, rotateEvery: o.RotateEvery,
		custom: o.CustomFields, cdcFields: o.CDCFields, apart: o.SeparateConsents,
		realms: map[string]*realm{},
	}
	s.tokens = newTokens(s)
	s.hooks = newHooks(s, o.WebhookURL)
	s.SetFaults(o.Faults)
	s.SetUnselected(o.Unselected)
	s.BeginLoad()
	s.handler = s.routes()
	var err error
	if s.journal, err = s.restore(o.Journal); err != nil {
		return nil, fmt.Errorf("qbosim: %w", err)
	}
	return s, nil
}

// restore replays the journal and queues the webhooks that nobody acknowledged.
func (s *Sim) restore(path string) (*journal, error) {
	pending := map[uint64]event{}
	j, err := openJournal(path, func(e entry) error {
		for _, ev := range e.Events {
			pending[ev.Seq] = ev
			s.hooks.seq = max(s.hooks.seq, ev.Seq)
		}
		for _, seq := range e.Acked {
			delete(pending, seq)
		}
		return s.apply(e)
	})
	if err != nil {
		return nil, err
	}
	events := make([]event, 0, len(pending))
	for _, e := range pending {
		events = append(events, e)
	}
	s.hooks.enqueue(events)
	return j, nil
}

// apply repeats what a journal line says.
func (s *Sim) apply(e entry) error {
	if e.Realm == "" {
		return nil
	}
	if e.Added {
		s.realms[e.Realm] = newRealm(e.Realm, len(s.realms))
		return nil
	}
	r := s.realms[e.Realm]
	switch {
	case r == nil:
		return fmt.Errorf("realm %q: %w", e.Realm, ErrUnknownRealm)
	case len(e.Writes) > 0:
		return s.applyLocked(r, e)
	case e.Code != nil:
		s.tokens.applyCodeLocked(e.Realm, *e.Code)
	case e.Grant != nil:
		s.tokens.applyGrantLocked(e.Realm, *e.Grant)
	case e.Expired:
		s.tokens.expireLocked(e.Realm)
	case e.Revoked:
		s.tokens.applyRevokedLocked(e.Realm)
	case e.Consent != 0:
		s.tokens.applyEndedLocked(e.Realm, e.Consent)
	}
	return nil
}

// Handler serves the API, OAuth and the control API; see the package doc.
func (s *Sim) Handler() http.Handler { return s.handler }

// Close closes the journal; whatever would change something fails from then
// on. It does not wait for Run or for requests: end them first.
func (s *Sim) Close() error {
	s.hooks.post.client.CloseIdleConnections()
	if err := s.journal.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// AddRealm makes a company without records, not connected to the app. A known
// id changes nothing.
func (s *Sim) AddRealm(id string) {
	if err := s.addRealm(id); err != nil {
		s.log.Error("realm not added", zap.Error(err))
	}
}

func (s *Sim) addRealm(id string) error {
	if id == "" {
		return errors.New("a realm needs an id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.realms[id] != nil {
		return nil
	}
	if err := s.journal.append(entry{Realm: id, Added: true}); err != nil {
		return err
	}
	s.realms[id] = newRealm(id, len(s.realms))
	return nil
}

// Realms are the ids of all companies, sorted.
func (s *Sim) Realms() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make([]string, 0, len(s.realms))
	for id := range s.realms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *Sim) realm(id string) *realm {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.realms[id]
}

// whim is a generator for the n-th answer: which shape a fault has and the like.
func (s *Sim) whim(n uint64) *rand.Rand { return s.draw("answer", count(n)) }
