package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
)

const (
	checkConnections = "connections"
	checkTokens      = "tokens"
)

// When a deadline of a token is reported. A refresh moves the one of 100 days, and
// there is one an hour: two weeks before its end nothing has refreshed for long.
const (
	refreshWarn = 14 * 24 * time.Hour
	hardWarn    = 60 * 24 * time.Hour
	// named is how many realms a line names.
	named = 5
)

// realm is one that is or was connected.
type realm struct {
	connection.Connection
	sealed error // its token cannot be opened
}

// connections reads every realm's connection, and looks at its state and deadlines.
func (x *exam) connections(ctx context.Context) {
	if x.store == nil {
		x.skip(checkConnections, "fix Redis first", "not looked at")
		return
	}
	if err := x.Config.Connection.Validate(); err != nil {
		x.skip(checkConnections, "set LEDGERFEED_CONNECTION_KEYS as the services have it", "not looked at: %v", err)
		return
	}
	if err := x.readConnections(ctx); err != nil {
		x.fail(checkConnections, "see the log of Redis", "%v", err)
		return
	}
	x.lostRecords()
	x.foreignApps(ctx)
	x.states()
	x.refusals()
	x.disconnected()
	x.deadlines()
}

func (x *exam) readConnections(ctx context.Context) error {
	store, err := connection.New(connection.Options{State: x.store, Config: x.Config.Connection, Refresher: noRefresh{}, Now: x.Now, Logger: x.Logger})
	if err != nil {
		return err
	}
	ids, err := store.List(ctx)
	if err != nil {
		return err
	}
	// Of these, some may be on no list any more.
	if x.lost, err = store.Lost(ctx); err != nil {
		return err
	}
	if x.names, err = x.store.CompanyNames(ctx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		c, err := store.Get(ctx, id)
		switch {
		case errors.Is(err, connection.ErrNotConnected):
			if !slices.Contains(x.lost, id) {
				x.lost = append(x.lost, id)
			}
		case errors.Is(err, connection.ErrSealed):
			x.realms = append(x.realms, realm{c, err})
		case err != nil:
			return err
		default:
			x.realms = append(x.realms, realm{c, nil})
		}
	}
	return nil
}

// lostRecords names the realms that have traces of a connection and no record of one.
func (x *exam) lostRecords() {
	if len(x.lost) == 0 {
		return
	}
	names := make([]string, len(x.lost))
	for i, id := range x.lost {
		names[i] = x.named(id)
	}
	x.fail(checkConnections, connection.LostRemedy, "Redis has lost the connection records of %d companies, with their tokens: %s", len(names), some(names))
}

// named is a realm with the name of its company, if that is known.
func (x *exam) named(id string) string {
	if name := x.names[id]; name != "" {
		return id + " (" + name + ")"
	}
	return id
}

// states tells how many realms can be read, and since when Intuit sends webhooks:
// it sends none for what was before the connection.
func (x *exam) states() {
	counts := map[connection.State]int{}
	var lapsed, parked []string
	refused := map[connection.State][]string{}
	var first, last time.Time
	for _, r := range x.realms {
		counts[r.State]++
		switch r.State {
		case connection.ReauthRequired:
			lapsed = append(lapsed, x.lapse(r))
		case connection.Parked:
			parked = append(parked, fmt.Sprintf("%s since %s (%s)", x.named(r.RealmID), day(r.ChangedAt), r.Reason))
		case connection.NoAccess, connection.SubscriptionEnded, connection.WrongEnvironment:
			refused[r.State] = append(refused[r.State], fmt.Sprintf("%s since %s (%s)", x.named(r.RealmID), day(r.LapsedAt), answered(r.Access)))
		case connection.Live:
			if first.IsZero() || r.ConnectedAt.Before(first) {
				first = r.ConnectedAt
			}
			if r.ConnectedAt.After(last) {
				last = r.ConnectedAt
			}
		}
	}
	if len(lapsed) > 0 {
		x.fail(checkConnections, "a refused token is tried again by itself, and now by ledgerfeed token refresh; if Intuit still refuses it, have a person connect the company again: its cursors wait, and nothing is lost",
			"%d of %d companies need reauthorisation: %s", len(lapsed), len(x.realms), some(lapsed))
	}
	for _, s := range connection.RefusedStates() {
		if len(refused[s]) > 0 {
			x.fail(checkConnections, s.Remedy(), "Intuit refuses %d of %d companies (%s); their events and cursors wait: %s",
				len(refused[s]), len(x.realms), s, some(refused[s]))
		}
	}
	if len(parked) > 0 {
		x.warn(checkConnections, connection.Parked.Remedy(), "%d of %d companies were parked by a person: %s", len(parked), len(x.realms), some(parked))
	}
	switch {
	case counts[connection.Live] > 0:
		x.ok(checkConnections, "%d companies connected, the first on %s, the last on %s; webhooks come only for changes after that, what was before is loaded",
			counts[connection.Live], day(first), day(last))
	case len(lapsed)+len(parked)+len(refused)+len(x.lost) == 0:
		x.warn(checkConnections, "connect one: Intuit sends webhooks only for companies that are connected", "no company is connected")
	}
}

// answered is what Intuit answers to every call about a realm.
func answered(r connection.AccessRefusal) string {
	text := r.Message
	if r.TID != "" {
		text += ", intuit_tid " + r.TID
	}
	if text == "" {
		return "put so by hand"
	}
	return text
}

// lapse is a realm that must be connected anew, and what Intuit said.
func (x *exam) lapse(r realm) string {
	text := fmt.Sprintf("%s since %s", x.named(r.RealmID), day(r.LapsedAt))
	if f := r.Refusal; f != nil {
		text += fmt.Sprintf(" (%s; tried again at %s)", f, f.Next.UTC().Format(time.DateTime))
	}
	return text
}

// refusals looks for live realms whose tokens cannot be used: they are those of another
// client id, or Intuit refuses them although the realm may not be the reason.
func (x *exam) refusals() {
	var other, refused, held, failed []string
	now := x.Now()
	for _, r := range x.realms {
		if r.State != connection.Live {
			continue
		}
		switch {
		case r.ClientID != "" && x.Config.QBO.ClientID != "" && r.ClientID != x.Config.QBO.ClientID:
			other = append(other, x.named(r.RealmID)+" of "+r.ClientID)
		case r.Refusal != nil && x.wrong[r.App]:
			// The app's result says it for all of them.
		case r.Refusal != nil:
			refused = append(refused, x.named(r.RealmID)+": "+r.Refusal.String())
		case r.RefreshRefusal != nil:
			failed = append(failed, x.named(r.RealmID)+": "+r.RefreshRefusal.Message)
		case r.HeldUntil.After(now):
			held = append(held, x.named(r.RealmID)+" until "+r.HeldUntil.UTC().Format(time.DateTime))
		}
	}
	if len(other) > 0 {
		x.fail(checkTokens, "set LEDGERFEED_QBO_CLIENT_ID and _SECRET to the app's that the companies were connected with, or connect them with this one",
			"the tokens of %d companies belong to another client id than %s, and are not refreshed: %s", len(other), x.Config.QBO.ClientID, some(other))
	}
	if len(refused) > 0 {
		x.fail(checkTokens, "compare LEDGERFEED_QBO_CLIENT_ID and _SECRET with the portal's page Keys & credentials; the tokens are kept and tried again",
			"Intuit refuses the tokens of %d companies, and the app's keys may be the reason: %s", len(refused), some(refused))
	}
	if len(failed) > 0 {
		x.warn(checkTokens, "see Intuit's status page; ledgerfeed token status ID says when the next try is, ledgerfeed token refresh ID tries at once",
			"Intuit's token endpoint refuses refreshes of %d companies: %s", len(failed), some(failed))
	}
	if len(held) > 0 {
		x.warn(checkTokens, "see Intuit's status page; calls go on by themselves", "Intuit's API answers 401 to tokens that it issued just before, for %d companies: %s", len(held), some(held))
	}
}

// disconnected looks for realms that are disconnected here and not at Intuit.
func (x *exam) disconnected() {
	var active []string
	for _, r := range x.realms {
		if r.GrantActive() {
			active = append(active, fmt.Sprintf("%s (%d, the last at %s)", x.named(r.RealmID), r.Late.Events, r.Late.Last.UTC().Format(time.DateTime)))
		}
	}
	if len(active) > 0 {
		x.warn(checkConnections, connection.OwnerEnds, "webhooks come for %d companies that are disconnected: their authorisation is active at Intuit: %s", len(active), some(active))
	}
}

// deadlines looks at the ends of the tokens: some 100 days since the last refresh,
// five years since the connection.
func (x *exam) deadlines() {
	var sealed, expired, expiring, ending []string
	now, live := x.Now(), 0
	for _, r := range x.realms {
		if r.State != connection.Live {
			continue
		}
		live++
		soft, hard := r.Token.RefreshExpires, r.Token.RefreshHardExpires
		switch {
		case r.sealed != nil:
			sealed = append(sealed, x.named(r.RealmID))
		case ends(soft, now) || ends(hard, now):
			expired = append(expired, fmt.Sprintf("%s on %s", x.named(r.RealmID), day(earlier(soft, hard))))
		case ends(hard, now.Add(hardWarn)):
			ending = append(ending, fmt.Sprintf("%s on %s", x.named(r.RealmID), day(hard)))
		case ends(soft, now.Add(refreshWarn)):
			expiring = append(expiring, fmt.Sprintf("%s on %s", x.named(r.RealmID), day(soft)))
		}
	}
	if len(sealed) > 0 {
		x.fail(checkTokens, "put the key back into LEDGERFEED_CONNECTION_KEYS, or connect them again", "the tokens of %d companies cannot be decrypted with the configured keys: %s", len(sealed), some(sealed))
	}
	if len(expired) > 0 {
		x.fail(checkTokens, "have a person connect them again", "the refresh tokens of %d companies have expired: %s", len(expired), some(expired))
	}
	if len(ending) > 0 {
		x.warn(checkTokens, "have a person connect them again before: no refresh moves this end", "the authorisation of %d companies reaches its five years: %s", len(ending), some(ending))
	}
	if len(expiring) > 0 {
		x.warn(checkTokens, "see why they are not refreshed: is a reconciler running?", "the refresh tokens of %d companies expire: %s", len(expiring), some(expiring))
	}
	if live > 0 && len(sealed)+len(expired)+len(ending)+len(expiring) == 0 {
		x.ok(checkTokens, "%d refresh tokens, none expires within %d days", live, int(refreshWarn.Hours()/24))
	}
}

func ends(at, by time.Time) bool { return !at.IsZero() && !at.After(by) }

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func day(t time.Time) string {
	if t.IsZero() {
		return "an unknown day"
	}
	return t.UTC().Format(time.DateOnly)
}

func some(names []string) string {
	if len(names) <= named {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:named], ", "), len(names)-named)
}
