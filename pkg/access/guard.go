package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// ErrWait says that no call may be made for a company now. A [*WaitError] says why.
var ErrWait = errors.New("the company cannot be read now")

// WaitError is why a company, or all of an app, must wait.
type WaitError struct {
	Realm string
	// State is that of the connection: a refused one, or live while it is not known yet
	// whether Intuit refuses the company or while it refuses the app.
	State connection.State
	// Since is since when Intuit refuses it.
	Since time.Time
	// App is the problem of the app, if that is it.
	App state.AppProblem
	// After is when to ask again.
	After  time.Duration
	reason string
}

// Error implements error.
func (e *WaitError) Error() string {
	return fmt.Sprintf("realm %s: %v: %s", e.Realm, ErrWait, e.reason)
}

// Is makes errors.Is work with ErrWait, and with connection.ErrRefused.
func (e *WaitError) Is(target error) bool {
	return target == ErrWait || target == connection.ErrRefused && e.State.Refused()
}

const (
	// A company is refused after so many probes, of which the first and the last are
	// confirmEvery × (confirmations − 1) apart at least.
	confirmations = 3
	confirmEvery  = 2 * time.Minute
	// unclearFor is how long a company is suspected that is alone refused, while no
	// other company of the app can be asked.
	unclearFor = time.Hour
	// probeEvery is how often Intuit is asked about a company that it refuses.
	probeEvery = time.Hour
	// unclearEvery is when it is asked again if the probe failed for another reason.
	unclearEvery = 10 * time.Minute
	// appEvery is how often it is asked about an app that it refuses.
	appEvery = 20 * time.Second
	// others is how many other companies are asked at most before one is refused.
	others = 2
	// answeredFor is how long an answer to a probe proves that a company is read.
	answeredFor = 10 * time.Minute
	// knownFor is how old what is known of an app may be.
	knownFor = 2 * time.Second
	// maxKnown bounds the memory of answers.
	maxKnown    = 10_000
	callTimeout = 90 * time.Second
)

// Options are what [New] needs. State, Connections and QBO are required.
type Options struct {
	State       *state.Store
	Connections *connection.Store
	QBO         *qbo.Client
	Logger      *zap.Logger
	Now         func() time.Time // of this process
}

// Guard says whether a company may be called. It is safe for concurrent use.
type Guard struct {
	state       *state.Store
	connections *connection.Store
	client      *qbo.Client
	log         *zap.Logger
	now         func() time.Time

	mu       sync.Mutex           // guards the rest
	apps     map[string]knownApp  // by name
	answered map[string]time.Time // when a probe of a realm was last answered
	witness  map[string]string    // the realm of an app that was last answered
}

type knownApp struct {
	problem state.AppProblem
	at      time.Time
}

// New makes a guard. It opens nothing and starts nothing.
func New(o Options) *Guard {
	g := &Guard{
		state: o.State, connections: o.Connections, client: o.QBO.With(qbo.Live), log: o.Logger, now: o.Now,
		apps: map[string]knownApp{}, answered: map[string]time.Time{}, witness: map[string]string{},
	}
	if g.log == nil {
		g.log = zap.NewNop()
	}
	if g.now == nil {
		g.now = time.Now
	}
	return g
}

// Admit returns nil if calls about a realm may be made now, a [*WaitError] if not yet, or
// an error that wraps [connection.ErrNotConnected], [connection.ErrParked] or
// [connection.ErrReauthRequired]. If a probe is due it makes it, with one or two calls.
func (g *Guard) Admit(ctx context.Context, realm string) error {
	a, err := g.connections.Admission(ctx, realm)
	if err != nil {
		return err
	}
	if a.State != connection.Live && !a.State.Refused() {
		return connection.Connection{RealmID: realm, State: a.State}.Unusable()
	}
	p, err := g.appProblem(ctx, a.App)
	if err != nil {
		return err
	}
	if p.Found() {
		if err := g.waitForApp(ctx, realm, p); err != nil {
			return err
		}
	}
	if a.State == connection.Live && !a.Suspected {
		return nil
	}
	return g.ask(ctx, realm)
}

// ask makes the probe of a realm that is refused or suspected, if it is due.
func (g *Guard) ask(ctx context.Context, realm string) error {
	conn, err := g.connections.Get(ctx, realm)
	if err != nil && conn.RealmID == "" {
		return err
	}
	if !conn.Access.Found() {
		if conn.State.Refused() { // put so by hand
			return wait(conn, probeEvery)
		}
		return conn.Unusable() // it is answered by now
	}
	hold := confirmEvery
	if conn.State.Refused() {
		hold = unclearEvery
	}
	mine, err := g.connections.ClaimProbe(ctx, realm, hold)
	if err != nil {
		return err
	}
	if !mine {
		return wait(conn, hold)
	}
	return g.probe(ctx, conn, "")
}

// Refused says what a refused call means, as a Client returned it: nil if it is about the
// call alone, or is no refusal at all; a [*WaitError] if it is, or may be, about the
// company or the app. entity is what was asked for, which the probe then does not ask for;
// "" if it is not known.
func (g *Guard) Refused(ctx context.Context, realm, entity string, cause error) error {
	switch qbo.MeaningOf(cause) {
	case qbo.MeaningCompanyAccess:
	case qbo.MeaningAppProblem, qbo.MeaningTokenProblem:
		return g.ofApp(ctx, realm)
	default:
		return nil
	}
	if g.answeredLately(realm) {
		return nil
	}
	conn, err := g.connections.Get(ctx, realm)
	switch {
	case err != nil && conn.RealmID == "":
		return err
	case conn.State.Refused(), conn.State == connection.Live && conn.Access.Found():
		return wait(conn, confirmEvery) // somebody is on it
	case conn.State != connection.Live:
		return conn.Unusable()
	}
	if p, err := g.appProblem(ctx, conn.App); err != nil || p.Found() {
		return errors.Join(err, appWait(realm, p))
	}
	lease, err := g.state.Lease(ctx, "access:"+realm, callTimeout)
	if errors.Is(err, state.ErrHeld) {
		return wait(conn, confirmEvery)
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	return g.probe(ctx, conn, entity)
}

// ofApp says whether what the token endpoint refused to a realm is a problem of its app.
func (g *Guard) ofApp(ctx context.Context, realm string) error {
	a, err := g.connections.Admission(ctx, realm)
	if err != nil || a.State != connection.Live {
		return nil //nolint:nilerr // what the caller has is more to the point
	}
	p, err := g.appProblem(ctx, a.App)
	if err != nil || !p.Found() {
		return nil //nolint:nilerr // as before
	}
	return appWait(realm, p)
}

func (g *Guard) answeredLately(realm string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.answered[realm]
	return ok && g.now().Sub(at) < answeredFor
}

func (g *Guard) noteAnswer(app, realm string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.answered) >= maxKnown {
		clear(g.answered)
	}
	g.answered[realm] = g.now()
	g.witness[app] = realm
}

// wait is why a realm waits that Intuit refuses, or may.
func wait(conn connection.Connection, after time.Duration) error {
	reason := conn.Reason
	if reason == "" {
		reason = "Intuit refuses calls, and it is not known yet whether all: " + conn.Access.Message
	}
	return &WaitError{Realm: conn.RealmID, State: conn.State, Since: conn.Access.Since, After: min(after, maxAfter), reason: reason}
}

// maxAfter is how long at most nobody notices that a realm is answered.
const maxAfter = time.Minute
