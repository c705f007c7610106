package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Which consents wait until a person approves them.
const (
	ApproveNever  = "never"
	ApproveNew    = "new"
	ApproveAlways = "always"
)

// Config is what an operator sets of who may be connected by a consent.
type Config struct {
	Approve string   `koanf:"approve" doc:"Which consents need approval (ledgerfeed realm approve, or the console) before anything is read: never; new: of companies that are not connected; always: also a new consent of a connected company, which keeps its tokens meanwhile. Imported tokens need none."`
	Allow   []string `koanf:"allow" doc:"Company ids (realmId) that a consent may connect; empty for any. Connected companies stay connected."`
}

// DefaultConfig lets every company connect at once.
func DefaultConfig() Config { return Config{Approve: ApproveNever} }

// Validate names every setting that cannot be used.
func (c Config) Validate() error {
	var errs []error
	if !slices.Contains([]string{ApproveNever, ApproveNew, ApproveAlways}, c.Approve) {
		errs = append(errs, fmt.Errorf("connect.approve %q: give never, new or always", c.Approve))
	}
	for _, id := range c.Allow {
		if !realmID.MatchString(id) {
			errs = append(errs, fmt.Errorf("connect.allow %q: give company ids (realmId), digits only", id))
		}
	}
	return errors.Join(errs...)
}

// allows reports whether a company may be connected.
func (c Config) allows(realm string) bool {
	return len(c.Allow) == 0 || slices.Contains(c.Allow, realm)
}

// holds reports whether a consent waits for a person; before is the connection that there
// is, its zero value none. A company that a person disconnected counts as new.
func (c Config) holds(before connection.Connection) bool {
	switch c.Approve {
	case ApproveAlways:
		return true
	case ApproveNew:
		return before.RealmID == "" || before.State == connection.Pending || before.State == connection.Disconnected
	}
	return false
}

func notAllowed(realm string) *problem {
	return &problem{
		status: http.StatusForbidden, code: "not_allowed", title: "Not connected",
		text: "Company " + realm + " is not one of those that may be connected here. Ask the operator of this service.", warn: true,
		cause: fmt.Errorf("company %s is not in connect.allow", realm),
	}
}

// before is the connection that there is. Without an answer of Redis nothing is begun: a
// consent that waits could pass for one that need not.
func (h *Handler) before(ctx context.Context, realm string) (connection.Connection, *problem) {
	before, err := h.Connections.Get(ctx, realm)
	if err != nil && before.RealmID == "" && !errors.Is(err, connection.ErrNotConnected) {
		return before, unavailable(err)
	}
	return before, nil
}

// otherApp refuses the consent for one app where the connection of another works: its
// webhooks would be refused from then on, and its tokens be lost. The same app under
// another name, which its client id tells, is no other.
func (h *Handler) otherApp(ctx context.Context, before connection.Connection, token qbo.Token) *problem {
	works := before.State == connection.Live || before.State == connection.Parked || before.State.Refused()
	same := before.ClientID != "" && before.ClientID == h.OAuth.ClientID()
	if !works || before.App == "" || before.App == h.App || same {
		return nil
	}
	cause := fmt.Errorf("company %s is connected to app %s", before.RealmID, before.App)
	if before.ClientID == "" {
		// Whose grant it is, is not known: to revoke it could end the connection that works.
		return &problem{status: http.StatusConflict, code: "other_app", title: "Connected to another app", warn: true, cause: cause,
			text: "Company " + before.RealmID + " is connected to app " + before.App + ", and this is app " + h.App + ". Nothing was changed. Disconnect the company first."}
	}
	p := h.unverified(ctx, before.RealmID, before, token, cause)
	p.status, p.code, p.title = http.StatusConflict, "other_app", "Connected to another app"
	p.text = "Company " + before.RealmID + " is connected to app " + before.App + ", and this is app " + h.App + ". Disconnect the company first."
	return p
}

// store connects the company, or has the consent wait for approval.
func (h *Handler) store(ctx context.Context, realm string, before connection.Connection, token qbo.Token) (connection.State, error) {
	if h.Config.holds(before) {
		return connection.Pending, h.Connections.Hold(ctx, realm, h.App, token)
	}
	if err := h.Connections.Connect(ctx, realm, h.App, token); err != nil {
		return "", err
	}
	h.Connections.ScanSoon(ctx, realm)
	return connection.Live, nil
}
