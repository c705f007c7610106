package connection_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// picky is a revocation endpoint that answers 400 to all tokens but the known one. It
// says no more than Intuit does: 200 or 400.
type picky struct {
	known secret.String
	body  *qbo.OAuthError
	asked []secret.String
	fails map[secret.String]int // another status
}

func (p *picky) Revoke(_ context.Context, token secret.String) error {
	p.asked = append(p.asked, token)
	switch status := p.fails[token]; {
	case token == p.known:
		return nil
	case status != 0:
		return &qbo.OAuthError{Status: status}
	}
	return p.body
}

// Intuit answers 400 alike to a token it does not know, to one that was revoked before,
// and to a request it does not understand (intuit/oauth-jsclient#71, #19).
func TestRevoke_400IsNoProof(t *testing.T) {
	forms := map[string]*qbo.OAuthError{
		"empty":           {Status: http.StatusBadRequest},
		"invalid_request": {Status: http.StatusBadRequest, Code: "invalid_request"},
		"invalid_token":   {Status: http.StatusBadRequest, Code: "invalid_token", Description: "Token is invalid"},
	}
	everywhere(t, func(t *testing.T, b *bundle) {
		s := b.replica()
		for name, form := range forms {
			first := b.connect(s)
			b.reject(s, first.Access)
			access := b.token(s)
			refresh := b.get(s).Token.Refresh
			all := []secret.String{refresh, access, first.Refresh}
			for i := range all {
				p := &picky{known: all[i], body: form}
				confirmed, err := s.Revoke(t.Context(), realm, connection.Disconnected, "bye", p)
				require.NoError(t, err, name)
				require.True(t, confirmed, name)
				require.Equal(t, all[:i+1], p.asked, name)
				require.Equal(t, "bye", b.get(s).Reason)
				first = b.connect(s)
				b.reject(s, first.Access)
				access, refresh = b.token(s), b.get(s).Token.Refresh
				all = []secret.String{refresh, access, first.Refresh}
			}

			// What another answer says of the next token stands: nothing is forgotten.
			down := &picky{body: form, fails: map[secret.String]int{access: http.StatusServiceUnavailable}}
			_, err := s.Revoke(t.Context(), realm, connection.Disconnected, "bye", down)
			require.Error(t, err)
			require.Equal(t, connection.Live, b.get(s).State)

			p := &picky{body: form}
			confirmed, err := s.Revoke(t.Context(), realm, connection.Disconnected, "bye", p)
			require.NoError(t, err)
			require.False(t, confirmed, name)
			require.Equal(t, all, p.asked)
			c := b.get(s)
			require.Equal(t, connection.Disconnected, c.State)
			require.Empty(t, c.Token)
			require.Contains(t, c.Reason, "may still be active")
			require.Contains(t, c.Reason, connection.OwnerEnds)
			confirmed, err = s.Revoke(t.Context(), realm, connection.Disconnected, "again", p)
			require.NoError(t, err)
			require.False(t, confirmed)
			require.Contains(t, b.get(s).Reason, "may still be active", "what is known stays")
		}
		b.see(b.get(s).Reason)
	})
}
