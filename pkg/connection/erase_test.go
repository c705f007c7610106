package connection_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
)

// Of an erased realm only that is kept, and nothing but a new connection changes it.
func TestErase_KeepsOnlyTheNote(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := setup(t, devtest.RealRedis(t))
	b.setNow(noon)
	s := b.replica()
	token := b.connect(s)
	require.NoError(t, s.Hold(ctx, realm, "books", token))
	before := b.get(s).Generation
	require.NoError(t, s.Erase(ctx, realm, "erased by somebody"))

	_, err := s.Get(ctx, realm)
	require.ErrorIs(t, err, connection.ErrErased)
	require.ErrorIs(t, err, connection.ErrNotConnected)
	_, err = b.replica().Known(ctx, realm)
	require.ErrorIs(t, err, connection.ErrErased)
	_, err = s.Token(ctx, realm)
	require.Error(t, err)
	for _, to := range connection.States() {
		require.Error(t, s.SetState(ctx, realm, to, "by hand"), to)
	}
	require.ErrorIs(t, s.Approve(ctx, realm), connection.ErrNothingHeld)
	require.NoError(t, s.NoteLate(ctx, realm, 3))
	require.NoError(t, s.CheckSoon(ctx, realm))
	added, err := s.Relist(ctx, []string{realm})
	require.NoError(t, err)
	require.Zero(t, added)
	realms, err := s.List(ctx)
	require.NoError(t, err)
	require.Empty(t, realms)
	page, err := s.Page(ctx, connection.Query{})
	require.NoError(t, err)
	require.Empty(t, page.Realms)
	fields, err := b.redis().HGetAll(ctx, connection.RecordKey(realm)).Result()
	require.NoError(t, err)
	require.Len(t, fields, 4, "%v", fields)
	require.Equal(t, "erased", fields["state"])
	require.Equal(t, "erased by somebody", fields["reason"])

	b.connect(s)
	c := b.get(s)
	require.Equal(t, connection.Live, c.State)
	require.Greater(t, c.Generation, before+1, "a refresh under way brings no token back")
	require.Empty(t, c.Reason)
}
