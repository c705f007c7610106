package connect_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/connect"
)

func approving(what string) func(*connect.Options) {
	return func(o *connect.Options) { o.Config = connect.Config{Approve: what} }
}

func (b *bundle) get(id string) connection.Connection {
	b.Helper()
	c, err := b.connections.Get(b.Context(), id)
	require.NoError(b, err)
	return c
}

// A stranger's company is not read before a person has approved it.
func TestApprove_NothingIsReadBefore(t *testing.T) {
	t.Parallel()
	for _, what := range []string{connect.ApproveNew, connect.ApproveAlways} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := setup(t, approving(what))
			p := b.person()
			a := p.connect(realm)
			require.Equal(t, http.StatusOK, a.status, a.body)
			require.Contains(t, a.body, "waits for approval")
			c := b.get(realm)
			require.Equal(t, connection.Pending, c.State)
			require.Equal(t, "books", c.Consent.App)
			_, err := b.connections.Token(t.Context(), realm)
			require.Error(t, err, "no token is given")
			require.Error(t, b.connections.SetState(t.Context(), realm, connection.Live, ""), "no other way makes it live")
			require.NoError(t, b.connections.SetState(t.Context(), realm, connection.Parked, "by hand"))
			require.Error(t, b.connections.SetState(t.Context(), realm, connection.Live, ""))
			require.Error(t, b.connections.Refresh(t.Context(), realm))
			waiting, err := b.connections.Waiting(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{realm}, waiting)

			require.NoError(t, b.connections.Approve(t.Context(), realm))
			c = b.get(realm)
			require.Equal(t, connection.Live, c.State)
			require.False(t, c.Consent.Waits())
			token, err := b.connections.Token(t.Context(), realm)
			require.NoError(t, err)
			_, err = b.company(t.Context(), realm, qbo.Token{Access: token})
			require.NoError(t, err)
			require.ErrorIs(t, b.connections.Approve(t.Context(), realm), connection.ErrNothingHeld)
			waiting, err = b.connections.Waiting(t.Context())
			require.NoError(t, err)
			require.Empty(t, waiting)
		})
	}
}

// With new, a company that is connected may consent again; with always its new consent
// waits, and the connection works on meanwhile.
func TestApprove_AConsentOfAConnectedCompany(t *testing.T) {
	t.Parallel()
	b := setup(t, approving(connect.ApproveNew))
	before := b.live()
	require.Equal(t, http.StatusOK, b.person().connect(realm).status)
	require.Equal(t, connection.Live, b.get(realm).State)
	require.Greater(t, b.get(realm).Generation, before.Generation)

	b = setup(t, approving(connect.ApproveAlways))
	before = b.live()
	a := b.person().connect(realm)
	require.Contains(t, a.body, "waits for approval")
	held := b.get(realm)
	require.True(t, held.Consent.Waits())
	held.Consent = connection.Held{}
	require.Equal(t, before, held, "the connection is as it was")
	_, err := b.connections.Token(t.Context(), realm)
	require.NoError(t, err)
	require.NoError(t, b.connections.Refresh(t.Context(), realm))

	require.NoError(t, b.connections.Approve(t.Context(), realm))
	require.NoError(t, b.connections.Refresh(t.Context(), realm), "the new token works")
}

// A company that a person disconnected is new: its owner alone does not bring it back.
func TestApprove_ADisconnectedCompanyIsNew(t *testing.T) {
	t.Parallel()
	b := setup(t, approving(connect.ApproveNew))
	b.live()
	require.NoError(t, b.connections.Disconnect(t.Context(), realm))
	require.Contains(t, b.person().connect(realm).body, "waits for approval")
	require.Equal(t, connection.Pending, b.get(realm).State)
}

// A rejected consent is given back to Intuit; a connection that works stays.
func TestReject_GivesTheConsentBack(t *testing.T) {
	t.Parallel()
	b := setup(t, approving(connect.ApproveAlways))
	b.person().connect(realm)
	confirmed, err := b.connections.Reject(t.Context(), realm, b.oauth)
	require.NoError(t, err)
	require.True(t, confirmed)
	require.Equal(t, connection.Disconnected, b.get(realm).State)
	_, err = b.connections.Reject(t.Context(), realm, b.oauth)
	require.ErrorIs(t, err, connection.ErrNothingHeld)

	b.live()
	b.person().connect(realm)
	confirmed, err = b.connections.Reject(t.Context(), realm, b.oauth)
	require.NoError(t, err)
	require.True(t, confirmed)
	require.Equal(t, connection.Live, b.get(realm).State)
	require.NoError(t, b.connections.Refresh(t.Context(), realm), "SeparateConsents: the other grant works on")
}

// A key of the ring is in use while a consent that waits is sealed with it.
func TestHold_IsResealedWithTheFirstKey(t *testing.T) {
	t.Parallel()
	b := setup(t, approving(connect.ApproveAlways))
	b.person().connect(realm)
	use, err := b.connections.KeyUse(t.Context())
	require.NoError(t, err)
	require.Equal(t, connection.KeyUse{"k1": 1}, use)
}

// A company that is not on the list is not connected, and nobody spends its code.
func TestAllow_OtherCompaniesAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *connect.Options) { o.Config = connect.Config{Allow: []string{other}} })
	a := b.person().connect(realm)
	require.Equal(t, http.StatusForbidden, a.status)
	require.Contains(t, a.body, "not one of those that may be connected")
	_, err := b.connections.Get(t.Context(), realm)
	require.ErrorIs(t, err, connection.ErrNotConnected)
	require.Equal(t, http.StatusOK, b.person().connect(other).status)
}

// A consent for one app does not replace the working connection of another.
func TestCallback_KeepsTheConnectionOfAnotherApp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, client := range []string{"another-client", ""} {
		b.live()
		require.NoError(t, b.store.Redis().HSet(t.Context(), connection.RecordKey(realm), "app", "production").Err())
		b.setClient(client)
		before := b.get(realm)
		require.Equal(t, "production", before.App)
		a := b.person().connect(realm)
		require.Equal(t, http.StatusConflict, a.status, a.body)
		require.Contains(t, a.body, "connected to app production")
		require.Equal(t, before, b.get(realm))
	}
	// One that does not work may be replaced, and so may a name of the same app.
	require.NoError(t, b.connections.SetState(t.Context(), realm, connection.ReauthRequired, "test"))
	require.Equal(t, http.StatusOK, b.person().connect(realm).status)
	require.Equal(t, "books", b.get(realm).App)
	require.NoError(t, b.store.Redis().HSet(t.Context(), connection.RecordKey(realm), "app", "renamed").Err())
	require.Equal(t, http.StatusOK, b.person().connect(realm).status)
	require.Equal(t, "books", b.get(realm).App)
}

// setClient has the stored token be one of another client id; "" is not known.
func (b *bundle) setClient(id string) {
	b.Helper()
	connections, err := connection.New(connection.Options{State: b.store, Refresher: named{id}, Config: connection.Config{Keys: keys}})
	require.NoError(b, err)
	access, refresh := b.sim.Connect(realm)
	app := b.get(realm).App
	require.NoError(b, connections.Connect(b.Context(), realm, app, qbo.Token{Access: access, Refresh: refresh, AccessExpires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}))
}

// named is the app of a client id.
type named struct{ id string }

func (n named) ClientID() string { return n.id }

func (named) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, errors.New("not asked for")
}
