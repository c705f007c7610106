package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// What a probe asks for, in turns: every edition has both.
const (
	probeEntity = "CompanyInfo"
	probeCount  = "SELECT COUNT(*) FROM Account"
)

// verdict is what a probe says.
type verdict int

const (
	unclear verdict = iota // it failed for another reason
	answers
	refuses
)

// call makes a probe: the n-th one.
func (g *Guard) call(ctx context.Context, app, realm string, n int) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	if n%2 == 0 {
		_, _, err = g.client.Read(ctx, realm, probeEntity, "")
	} else {
		_, err = g.client.Query(ctx, realm, probeCount)
	}
	switch qbo.MeaningOf(err) {
	case qbo.MeaningOK, qbo.MeaningEntityUnavailable, qbo.MeaningNotFound, qbo.MeaningPoison, qbo.MeaningFilterUnsupported:
		g.noteAnswer(app, realm)
		return answers, nil
	case qbo.MeaningCompanyAccess:
		return refuses, err
	}
	return unclear, err
}

// probe asks about a realm and draws the conclusion. avoid is the entity of the call that
// was refused.
func (g *Guard) probe(ctx context.Context, conn connection.Connection, avoid string) error {
	n := conn.Access.Probes
	if avoid == probeEntity {
		n++
	}
	v, err := g.call(ctx, conn.App, conn.RealmID, n)
	switch v {
	case answers:
		return g.back(ctx, conn)
	case refuses:
		return g.refused(ctx, conn, err)
	}
	// What is due next was noted when the probe was claimed.
	return &WaitError{
		Realm: conn.RealmID, State: conn.State, Since: conn.Access.Since, After: maxAfter,
		reason: fmt.Sprintf("Intuit refuses calls, and asking whether it refuses all failed: %v", err),
	}
}

// back notes that a realm is answered.
func (g *Guard) back(ctx context.Context, conn connection.Connection) error {
	was, err := g.connections.Answered(ctx, conn.RealmID)
	if err != nil {
		return err
	}
	if _, err := g.state.NoteAnswered(ctx, conn.App, state.RefusedByAPI); err != nil {
		return err
	}
	if was != "" {
		g.connections.ScanSoon(ctx, conn.RealmID)
		g.log.Info("company is answered again", telemetry.Realm(conn.RealmID), telemetry.App(conn.App), telemetry.Reason(string(was)))
	}
	return nil
}

// refused draws the conclusion of a refused probe.
func (g *Guard) refused(ctx context.Context, conn connection.Connection, cause error) error {
	r, err := g.refusal(ctx, conn, cause)
	if err != nil {
		return err
	}
	if conn.State.Refused() {
		r.As = conn.State
		if _, err := g.connections.NoteAccessRefusal(ctx, conn.RealmID, r, probeEvery); err != nil {
			return err
		}
		return wait(conn, probeEvery)
	}
	problem, err := g.noteApp(ctx, conn, r)
	if err != nil {
		return err
	}
	if problem.Found() {
		return appWait(conn.RealmID, problem)
	}
	r, err = g.connections.NoteAccessRefusal(ctx, conn.RealmID, r, confirmEvery<<max(0, min(conn.Access.Probes+1-confirmations, 5)))
	if err != nil {
		return err
	}
	conn.Access = r
	if r.Probes < confirmations {
		return wait(conn, confirmEvery)
	}
	return g.decide(ctx, conn)
}

// decide puts a realm into its state, unless it may be the app that is refused.
func (g *Guard) decide(ctx context.Context, conn connection.Connection) error {
	now, err := g.state.Now(ctx)
	if err != nil {
		return err
	}
	asked, answered, err := g.askOthers(ctx, conn.App, []string{conn.RealmID})
	if err != nil {
		return err
	}
	if asked > 0 && !answered {
		if p, err := g.freshProblem(ctx, conn.App); err != nil || p.Found() {
			return errors.Join(err, appWait(conn.RealmID, p))
		}
		if now.Sub(conn.Access.Since) < unclearFor {
			return wait(conn, confirmEvery)
		}
	}
	r := conn.Access
	reason := fmt.Sprintf("Intuit answers %q", r.Message)
	if r.TID != "" {
		reason += " (intuit_tid " + r.TID + ")"
	}
	reason += ": " + r.As.Remedy()
	done, err := g.connections.Refuse(ctx, conn.RealmID, r.As, reason, probeEvery)
	if err != nil {
		return err
	}
	if done {
		g.log.Error("company is refused; its events and cursors wait", telemetry.Realm(conn.RealmID), telemetry.App(conn.App),
			telemetry.Outcome(string(r.As)), telemetry.TID(r.TID), telemetry.At(r.Since), telemetry.Reason(reason))
	}
	conn.State, conn.Reason = r.As, reason
	return wait(conn, probeEvery)
}

// refusal is what a refused probe says about a realm.
func (g *Guard) refusal(ctx context.Context, conn connection.Connection, cause error) (connection.AccessRefusal, error) {
	r := connection.AccessRefusal{As: connection.NoAccess, Message: words(cause), TID: tidOf(cause)}
	switch qbo.AccessOf(cause) {
	case qbo.AccessSubscription:
		r.As = connection.SubscriptionEnded
	case qbo.AccessEnvironment:
		// The answer is the same for both. A company that was read was of this
		// environment.
		cursors, err := g.state.Cursors(ctx, conn.RealmID)
		if err != nil {
			return r, err
		}
		if r.As = connection.WrongEnvironment; len(cursors) > 0 {
			r.As = connection.SubscriptionEnded
		}
	}
	return r, nil
}

// maxWords bounds what is kept of an answer.
const maxWords = 300

// words are Intuit's, of the first error.
func words(err error) string {
	var f *qbo.Fault
	if !errors.As(err, &f) {
		return err.Error()
	}
	parts := []string{fmt.Sprint(f.Status)}
	if len(f.Errors) > 0 {
		e := f.Errors[0]
		parts = append(parts, e.Code, e.Message, e.Detail)
	}
	text := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
	if cut := []rune(text); len(cut) > maxWords {
		text = string(cut[:maxWords]) + "…"
	}
	return text
}

func tidOf(err error) string {
	var f *qbo.Fault
	if !errors.As(err, &f) {
		return ""
	}
	return f.TID
}
