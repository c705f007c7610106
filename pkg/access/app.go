package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// Explain says what a problem of an app is and what to do, for people.
func Explain(p state.AppProblem) (text, remedy string) {
	server := "the API refuses every company that was asked"
	if p.By == state.RefusedByOAuth {
		server = "the token endpoint refuses the app"
	}
	text = fmt.Sprintf("Intuit refuses app %s since %s: %s. Its answer: %s", p.App, p.Since.Format("2006-01-02 15:04:05"), server, p.Message)
	if p.TID != "" {
		text += " (intuit_tid " + p.TID + ")"
	}
	return text, "compare qbo.client_id and qbo.client_secret with the portal's page Keys & credentials, and qbo.base_url with the environment of the companies " +
		"(production keys and URL, or development keys and the sandbox URL); no company is parked, and all go on within a minute once the settings are right"
}

func appWait(realm string, p state.AppProblem) error {
	text, _ := Explain(p)
	return &WaitError{Realm: realm, State: connection.Live, Since: p.Since, App: p, After: appEvery, reason: text}
}

// appProblem is the problem of an app, as it was at most knownFor ago.
func (g *Guard) appProblem(ctx context.Context, app string) (state.AppProblem, error) {
	g.mu.Lock()
	known, ok := g.apps[app]
	g.mu.Unlock()
	if age := g.now().Sub(known.at); ok && age >= 0 && age < knownFor {
		return known.problem, nil
	}
	return g.freshProblem(ctx, app)
}

func (g *Guard) freshProblem(ctx context.Context, app string) (state.AppProblem, error) {
	at := g.now() // before the question
	p, err := g.state.AppProblem(ctx, app)
	if err != nil {
		return p, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.apps[app] = knownApp{p, at}
	return p, nil
}

// noteApp notes a refused realm and returns the problem of its app, if that is what it
// is. Before a second realm makes it one, another that answers may disprove it.
func (g *Guard) noteApp(ctx context.Context, conn connection.Connection, r connection.AccessRefusal) (state.AppProblem, error) {
	refused, err := g.state.RefusedRealms(ctx, conn.App, state.RefusedByAPI)
	if err != nil {
		return state.AppProblem{}, err
	}
	if slices.ContainsFunc(refused, func(id string) bool { return id != conn.RealmID }) {
		if _, _, err := g.askOthers(ctx, conn.App, append(refused, conn.RealmID)); err != nil {
			return state.AppProblem{}, err
		}
	}
	found, err := g.state.NoteRefused(ctx, conn.App, conn.RealmID, state.AppRefusal{By: state.RefusedByAPI, Message: r.Message, TID: r.TID})
	if err != nil || !found {
		return state.AppProblem{}, err
	}
	p, err := g.freshProblem(ctx, conn.App)
	if err == nil && p.Last.Equal(p.Since) {
		text, remedy := Explain(p)
		g.log.Error("app is refused; no company is parked", telemetry.App(conn.App), telemetry.TID(p.TID), telemetry.Reason(text+"; "+remedy))
	}
	return p, err
}

// askOthers makes a call for companies of the app that are live and not among except, until
// one is answered, and says how many it asked.
func (g *Guard) askOthers(ctx context.Context, app string, except []string) (asked int, answered bool, err error) {
	realms, err := g.liveOthers(ctx, app, except)
	if err != nil {
		return 0, false, err
	}
	for _, id := range realms {
		asked++
		v, cause := g.call(ctx, app, id, 0)
		switch v {
		case answers:
			_, err := g.state.NoteAnswered(ctx, app, state.RefusedByAPI)
			return asked, true, err
		case refuses:
			r := state.AppRefusal{By: state.RefusedByAPI, Message: words(cause), TID: tidOf(cause)}
			if _, err := g.state.NoteRefused(ctx, app, id, r); err != nil {
				return asked, false, err
			}
		}
	}
	return asked, false, ctx.Err()
}

// liveOthers are some companies that may be asked, first the one that was last answered:
// where some are refused and some are not, it is the one that tells.
func (g *Guard) liveOthers(ctx context.Context, app string, except []string) ([]string, error) {
	q := connection.Query{States: []connection.State{connection.Live}, App: app, Limit: 2*others + len(except)}
	page, err := g.connections.Page(ctx, q)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	witness := g.witness[app]
	g.mu.Unlock()
	var ids []string
	if a, err := g.connections.Admission(ctx, witness); err == nil && a.State == connection.Live && !a.Suspected && !slices.Contains(except, witness) {
		ids = append(ids, witness)
	}
	for _, r := range page.Realms {
		if r.RealmID == witness {
			continue
		}
		if len(ids) < others && r.Err == nil && !r.Access.Found() && !slices.Contains(except, r.RealmID) {
			ids = append(ids, r.RealmID)
		}
	}
	return ids, nil
}

// waitForApp makes the probe that finds out whether an app's problem is over, if it is
// due: nil if it is over. A problem of the token endpoint keeps nobody from calls whose
// token is good; package connection finds out when it is over.
func (g *Guard) waitForApp(ctx context.Context, realm string, p state.AppProblem) error {
	if p.By == state.RefusedByOAuth {
		return nil
	}
	mine, err := g.state.ClaimAppProbe(ctx, p, appEvery)
	if err != nil {
		return err
	}
	if mine {
		over, err := g.probeApp(ctx, p)
		if err != nil || over {
			return err
		}
	}
	return appWait(realm, p)
}

// probeApp asks about one company of an app that is refused: one that was not asked yet,
// else the one that was asked least lately. It reports whether the problem is over.
func (g *Guard) probeApp(ctx context.Context, p state.AppProblem) (over bool, err error) {
	refused, err := g.state.RefusedRealms(ctx, p.App, p.By)
	if err != nil {
		return false, err
	}
	candidates, err := g.liveOthers(ctx, p.App, refused)
	if err != nil {
		return false, err
	}
	for _, id := range append(candidates[:min(len(candidates), 1)], refused...) {
		conn, err := g.connections.Get(ctx, id)
		if err != nil || conn.State != connection.Live {
			continue // it says nothing about the app any more
		}
		v, cause := g.call(ctx, p.App, id, 0)
		switch v {
		case answers:
			return true, g.endApp(ctx, p, refused)
		case refuses:
			r := state.AppRefusal{By: p.By, Message: words(cause), TID: tidOf(cause)}
			_, err := g.state.NoteRefused(ctx, p.App, id, r)
			return false, err
		}
		return false, nil
	}
	// Nobody is left to ask.
	return true, g.endApp(ctx, p, refused)
}

// endApp lets everybody go on.
func (g *Guard) endApp(ctx context.Context, p state.AppProblem, refused []string) error {
	if _, err := g.state.NoteAnswered(ctx, p.App, p.By); err != nil {
		return err
	}
	for _, id := range refused {
		a, err := g.connections.Admission(ctx, id)
		if err != nil || a.State != connection.Live {
			continue // it is not asked any more
		}
		if _, err := g.connections.Answered(ctx, id); err != nil {
			return err
		}
		g.connections.ScanSoon(ctx, id)
	}
	g.log.Info("app is answered again", telemetry.App(p.App), telemetry.Count(len(refused)))
	_, err := g.freshProblem(ctx, p.App)
	return err
}
