package connection

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// tokenRecord is a token as it is encrypted: the one place where its secrets
// are written out.
type tokenRecord struct {
	Access             string    `json:"access"`
	Refresh            string    `json:"refresh"`
	AccessExpires      time.Time `json:"access_expires,omitzero"`
	RefreshExpires     time.Time `json:"refresh_expires,omitzero"`
	RefreshHardExpires time.Time `json:"refresh_hard_expires,omitzero"`
	StoredAt           time.Time `json:"stored_at"`
	// ClientID is the app's that Intuit gave the token to; earlier versions stored none.
	ClientID string `json:"client_id,omitempty"`
}

// stored is a token, when it was stored, which tells its lifetime, and for which client.
type stored struct {
	qbo.Token
	at     time.Time
	client string // id; "" is unknown
}

func (r *keyring) sealToken(realm string, t stored) (string, error) {
	plain, err := json.Marshal(tokenRecord{
		Access:             t.Access.Reveal(),
		Refresh:            t.Refresh.Reveal(),
		AccessExpires:      t.AccessExpires,
		RefreshExpires:     t.RefreshExpires,
		RefreshHardExpires: t.RefreshHardExpires,
		StoredAt:           t.at,
		ClientID:           t.client,
	})
	if err != nil {
		return "", errors.New("a time in the token cannot be stored")
	}
	return r.seal(realm, plain), nil
}

func (r *keyring) openToken(realm, record string) (stored, error) {
	if record == "" {
		return stored{}, nil
	}
	plain, err := r.open(realm, record)
	if err != nil {
		return stored{}, sealedError{err}
	}
	var t tokenRecord
	if err := json.Unmarshal(plain, &t); err != nil {
		// The decoder's error could quote the token.
		return stored{}, sealedError{errors.New("the stored token has a format that this version does not know")}
	}
	return stored{
		Token: qbo.Token{
			Access:             secret.String(t.Access),
			Refresh:            secret.String(t.Refresh),
			AccessExpires:      t.AccessExpires,
			RefreshExpires:     t.RefreshExpires,
			RefreshHardExpires: t.RefreshHardExpires,
		},
		at: t.StoredAt, client: t.ClientID,
	}, nil
}

// sealedError is an error that is ErrSealed, and says why.
type sealedError struct{ error }

func (sealedError) Is(target error) bool { return target == ErrSealed }
