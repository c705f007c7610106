package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

type realmCmd struct {
	Ls         realmLsCmd         `cmd:"" help:"List companies and their state."`
	Show       realmShowCmd       `cmd:"" help:"Show the details of one company."`
	Park       realmParkCmd       `cmd:"" help:"Pause companies, keeping tokens and cursors."`
	Unpark     realmUnparkCmd     `cmd:"" help:"Resume parked companies and scan them at once."`
	Approve    realmApproveCmd    `cmd:"" help:"Approve pending consents and connect the companies."`
	Reject     realmRejectCmd     `cmd:"" help:"Reject pending consents and revoke them at Intuit."`
	Disconnect realmDisconnectCmd `cmd:"" help:"Revoke companies at Intuit and delete their tokens."`
	Erase      realmEraseCmd      `cmd:"" help:"Delete all stored data of a company."`
}

// realmView is a company in JSON.
type realmView struct {
	Realm      string            `json:"realm"`
	Company    string            `json:"company,omitempty"`
	App        string            `json:"app"`
	State      realmstatus.State `json:"state"`
	Why        string            `json:"why,omitempty"`
	Connection connection.State  `json:"connection"`

	Refusal *accessView `json:"refusal,omitempty"`

	ConnectedAt time.Time `json:"connected_at,omitzero"`
	ChangedAt   time.Time `json:"changed_at,omitzero"`
	LapsedAt    time.Time `json:"lapsed_at,omitzero"`

	CoveredUpTo    time.Time `json:"covered_up_to,omitzero"`
	FurthestBehind string    `json:"furthest_behind,omitempty"`
	LastScan       time.Time `json:"last_scan,omitzero"`
	OpenScans      int       `json:"open_scans"`
	Due            time.Time `json:"due,omitzero"`
	BeingScanned   bool      `json:"being_scanned"`

	Token tokenView `json:"token"`
	// AfterDisconnect are webhooks that came for a company that is disconnected.
	AfterDisconnect *lateView `json:"webhooks_after_disconnect,omitempty"`
}

// lateView are webhooks that came after a disconnect.
type lateView struct {
	Events int64     `json:"events"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	// GrantActive: they came too late to have been under way.
	GrantActive bool `json:"grant_active"`
}

func lateViewOf(c connection.Connection) *lateView {
	if c.Late.Events == 0 {
		return nil
	}
	return &lateView{Events: c.Late.Events, First: c.Late.First, Last: c.Late.Last, GrantActive: c.GrantActive()}
}

// accessView is what Intuit answers while it refuses a company, in JSON.
type accessView struct {
	Message string    `json:"message"`
	TID     string    `json:"intuit_tid,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Next    time.Time `json:"asked_again,omitzero"`
	Remedy  string    `json:"remedy"`
}

func viewOf(r realmstatus.Realm) realmView {
	v := realmView{
		Realm: r.RealmID, Company: r.Company, App: r.App, State: r.Health, Why: r.Why, Connection: r.State,
		ConnectedAt: r.ConnectedAt, ChangedAt: r.ChangedAt, LapsedAt: r.LapsedAt,
		CoveredUpTo: r.OldestCursor, FurthestBehind: r.OldestEntity,
		LastScan: r.Pace.Scanned, OpenScans: r.Scans, Due: r.Due, BeingScanned: r.Claimed, Token: tokenViewOf(r.Listed),
		AfterDisconnect: lateViewOf(r.Connection),
	}
	if x := r.Access; x.Found() {
		v.Refusal = &accessView{Message: x.Message, TID: x.TID, Since: x.Since, Next: x.Next, Remedy: x.As.Remedy()}
	}
	if r.Claimed {
		v.Due = time.Time{} // it is when the claim ends
	}
	return v
}

// openDirectory opens what lists the companies. Close the servers.
func openDirectory(ctx context.Context, p process) (*servers, *realmstatus.Directory, error) {
	s, err := openConnections(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	d, err := realmstatus.New(realmstatus.Options{State: s.store, Connections: s.connections})
	if err != nil {
		s.close(ctx)
		return nil, nil, err
	}
	return s, d, nil
}

// away gives an error of Redis its exit code.
func away(ctx context.Context, s *servers, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, connection.ErrNotConnected) {
		return err
	}
	if ping := s.store.Ping(ctx); errors.Is(ping, state.ErrUnreachable) {
		return lifecycle.Unreachable("", ping)
	}
	return err
}

// validRealms refuses ids that are none; flag is what they were given by.
func validRealms(flag string, ids ...string) error {
	for _, id := range ids {
		if !realmID.MatchString(id) {
			return lifecycle.Usage(fmt.Errorf("%s %q: give the company id, digits only, as Intuit's redirect names it (realmId)", flag, id))
		}
	}
	return nil
}

// stamp is a time in a table.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

// until is how far away a time is, in a table.
func until(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Until(t)
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	if d >= 48*time.Hour {
		return fmt.Sprintf("%s%dd", sign, int(d.Hours()/24))
	}
	return sign + d.Round(time.Second).String()
}

func row(w io.Writer, name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
