package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/retry"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// connected is the answer in JSON.
type connected struct {
	Realm   string `json:"realm"`
	Company string `json:"company,omitempty"`
	App     string `json:"app"`
	State   string `json:"state"`
	Again   bool   `json:"again"` // it was connected before
}

// consented is what Intuit came back with.
type consented struct {
	state, code, realm string
	refusal            string // RFC 6749's word, such as access_denied
}

// callback takes the outcome of a consent.
func (h *Handler) callback(c echo.Context) error {
	got, err := read(c.QueryParams())
	if err != nil {
		return h.fail(c, &problem{status: http.StatusBadRequest, code: "bad_request", title: "This link does not work", text: "It is not what Intuit sends: " + err.Error() + ". Begin again.", cause: err})
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), exchangeTime)
	defer cancel()
	browser, consent, p := h.consent(ctx, c, got.state)
	if p == nil {
		p = got.check(consent)
	}
	if p != nil {
		return h.fail(c, p)
	}
	out, p := h.connect(ctx, got, browser)
	if p != nil {
		return h.fail(c, p)
	}
	noStore(c)
	switch {
	case wantsJSON(c):
		return c.JSON(http.StatusOK, out)
	case h.RealmURL != nil: // the page behind the login says whether it waits
		return c.Redirect(http.StatusSeeOther, h.RealmURL(out.Realm))
	}
	return h.page(c, http.StatusOK, view{Connected: &out})
}

// read takes each parameter once: a second one would be somebody else's.
func read(q url.Values) (consented, error) {
	for _, name := range []string{"state", "code", "realmId", "error"} {
		if len(q[name]) > 1 {
			return consented{}, fmt.Errorf("%s is given twice", name)
		}
	}
	got := consented{state: q.Get("state"), code: q.Get("code"), realm: q.Get("realmId"), refusal: q.Get("error")}
	if got.state == "" {
		return got, errors.New("state is missing")
	}
	return got, nil
}

// consent finds what the state belongs to and uses it up, whatever comes of it.
func (h *Handler) consent(ctx context.Context, c echo.Context, state string) (browser, connection.Consent, *problem) {
	consent, err := h.Connections.EndConsent(ctx, state)
	switch {
	case errors.Is(err, connection.ErrNoConsent):
		return "", consent, &problem{status: http.StatusGone, code: "state_unknown", title: "This link is used up", text: "It was opened before, or is older than a quarter of an hour. If the company is not connected yet, begin again.", cause: err}
	case err != nil:
		return "", consent, unavailable(err)
	}
	b, ok := h.known(c)
	if !ok || !b.is(consent.Browser) {
		return "", consent, &problem{
			status: http.StatusForbidden, code: "other_browser", title: "Begun in another browser",
			text:  "The connection was begun in another browser, or cookies are off, or it was begun at another address than " + h.redirect.Scheme + "://" + h.redirect.Host + ". Begin again in this one.",
			cause: errors.New("the state was issued to another browser"),
		}
	}
	return b, consent, nil
}

// check says what is wrong with the outcome of a consent that is ours.
func (g consented) check(consent connection.Consent) *problem {
	switch {
	case g.refusal == "access_denied":
		return &problem{status: http.StatusForbidden, code: "access_denied", title: "Not connected", text: "The consent was not given at Intuit. Nothing has changed."}
	case g.refusal != "":
		return &problem{status: http.StatusBadGateway, code: "intuit_refused", title: "Intuit does not let this app ask", text: "Intuit says " + printable(g.refusal) + ". Compare the app's settings in Intuit's portal with those of Ledgerfeed.", cause: errors.New("intuit answered " + printable(g.refusal))}
	case g.code == "":
		return &problem{status: http.StatusBadRequest, code: "code_missing", title: "This link does not work", text: "It is not what Intuit sends: code is missing. Begin again."}
	case !realmID.MatchString(g.realm):
		return badRealm()
	case consent.RealmID != "" && consent.RealmID != g.realm:
		return &problem{status: http.StatusConflict, code: "other_company", title: "Another company", text: "Company " + consent.RealmID + " was to be connected anew, and at Intuit company " + g.realm + " was chosen. Nothing has changed. Begin again and choose the other one."}
	}
	return nil
}

// connect trades the code for tokens, proves them, and stores them.
func (h *Handler) connect(ctx context.Context, g consented, b browser) (connected, *problem) {
	out := connected{Realm: g.realm, App: h.App}
	if !h.Config.allows(g.realm) {
		return out, notAllowed(g.realm) // before the code is spent: no grant has tokens
	}
	before, p := h.before(ctx, g.realm)
	if p != nil {
		return out, p
	}
	out.Again = before.RealmID != "" && before.State != connection.Pending
	token, err := h.OAuth.Exchange(ctx, g.code, h.verifier(b, g.state))
	switch {
	case errors.Is(err, qbo.ErrInvalidGrant):
		return out, &problem{status: http.StatusBadRequest, code: "code_refused", title: "Intuit does not take this link", text: "It was used before, or is too old. Begin again.", cause: err}
	case err != nil:
		return out, &problem{status: http.StatusBadGateway, code: "intuit_failed", title: "Intuit did not finish", text: "Intuit gave no tokens. Begin again in a while.", cause: err}
	}
	if out.Company, err = h.company(ctx, g.realm, token); err != nil {
		return out, h.unverified(ctx, g.realm, before, token, err)
	}
	if p := h.otherApp(ctx, before, token); p != nil {
		return out, p
	}
	state, err := h.store(ctx, g.realm, before, token)
	if err != nil {
		p := unavailable(err)
		p.text = "The tokens could not be stored. Begin again: Intuit then gives new ones."
		return out, p
	}
	out.State = string(state)
	return out, nil
}

// company asks for the company's name, which proves that the token is for it. Without an
// answer nothing is proved: a live connection must not be replaced by a token that may be
// another company's.
func (h *Handler) company(ctx context.Context, realm string, token qbo.Token) (string, error) {
	if h.Company == nil {
		return "", nil
	}
	again := retry.Policy{First: companyWait, Tries: companyTries, Temporary: qbo.Temporary}
	var name string
	var err error
	_ = again.Do(ctx, func() error { name, err = h.ask(ctx, realm, token); return err }) // err says more than the end of ctx
	return name, err
}

const (
	// companyTime bounds one question for the company's name, companyTries how often it
	// is asked, the second time after companyWait.
	companyTime  = 10 * time.Second
	companyTries = 3
	companyWait  = 500 * time.Millisecond
)

func (h *Handler) ask(ctx context.Context, realm string, token qbo.Token) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, companyTime)
	defer cancel()
	return h.Company(ctx, realm, token)
}

// unverified gives back a grant that is not stored, and says what may be wrong.
func (h *Handler) unverified(ctx context.Context, realm string, before connection.Connection, token qbo.Token, cause error) *problem {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeTime)
	defer cancel()
	// The same text whether or not the company is connected: anybody may name any company
	// here, and must not learn which are customers.
	note := "Nothing was changed: a connection that there was stays as it is"
	// The grant is another than the one of a live connection, perhaps another company's: it
	// must not stay active, with nobody who knows its tokens.
	if err := h.OAuth.Revoke(ctx, token.Refresh); err != nil {
		note += ". The new consent could not be given back to Intuit: " + connection.OwnerEnds
		h.log.Warn("new consent not revoked", telemetry.Realm(realm), telemetry.TID(oauthTID(err)), telemetry.Error(err))
	} else {
		note += ", and the new consent was given back to Intuit"
		h.log.Info("new consent revoked", telemetry.Realm(realm))
	}
	note += "."
	if before.State == connection.Live {
		// Should Intuit have ended both, the operator learns it now and not at the next scan.
		if err := h.Connections.CheckSoon(ctx, realm); err != nil {
			h.log.Warn("token not checked", telemetry.Realm(realm), telemetry.Error(err))
		}
	}
	p := &problem{
		status: http.StatusBadGateway, code: "company_unverified", title: "Intuit does not show this company",
		text: "Intuit did not answer for company " + realm + ". " + note + " Begin again in a while.", cause: cause, warn: true,
	}
	var fault *qbo.Fault
	if errors.As(cause, &fault) {
		p.cause = fmt.Errorf("company %s: status %d: %w", realm, fault.Status, cause)
		p.tid = fault.TID
	}
	refused := errors.Is(cause, qbo.ErrForbidden) || errors.Is(cause, qbo.ErrUnauthorized)
	if refused && fault != nil && fault.Status < http.StatusInternalServerError {
		if qbo.AccessOf(cause) == qbo.AccessSubscription {
			p.status, p.code = http.StatusBadRequest, "subscription_ended"
			p.text = "Intuit says that the QuickBooks subscription of company " + realm + " has ended. " + note + " Begin again once it is renewed."
			return p
		}
		p.status, p.code = http.StatusBadRequest, "wrong_company"
		p.text = "Intuit does not let this app read company " + realm + ". Either the consent is for another company, or the environment is another one: " +
			"a sandbox company needs LEDGERFEED_QBO_BASE_URL=" + qbo.SandboxURL + " and the app's development keys, a real one " + qbo.ProductionURL + " and the production keys. " + note + " Then begin again."
	}
	return p
}

// oauthTID is Intuit's id of a call to the OAuth endpoints that failed, "" if it gave none.
func oauthTID(err error) string {
	var refused *qbo.OAuthError
	if errors.As(err, &refused) {
		return refused.TID
	}
	return ""
}
