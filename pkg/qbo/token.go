package qbo

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// accessLifetime is what Intuit documents for an access token.
const accessLifetime = time.Hour

// Token is what Intuit's token endpoint gives. Store it before using it: the
// refresh token before it may be void already.
type Token struct {
	Access  secret.String
	Refresh secret.String
	// AccessExpires is an hour after the answer.
	AccessExpires time.Time
	// RefreshExpires is some 100 days ahead and moves with every refresh; zero if
	// Intuit did not say.
	RefreshExpires time.Time
	// RefreshHardExpires is the end that no refresh moves, five years after the
	// connection; zero if Intuit did not say.
	RefreshHardExpires time.Time
}

// tokenAnswer is the body of the token endpoint. Its secrets are read into
// secret.String, so that no error or log can show them.
type tokenAnswer struct {
	Access             secret.String `json:"access_token"`
	Refresh            secret.String `json:"refresh_token"`
	ExpiresIn          text          `json:"expires_in"`
	RefreshExpiresIn   text          `json:"x_refresh_token_expires_in"`
	RefreshHardExpires text          `json:"x_refresh_token_hard_expires_in"`
}

// token turns the answer to a request sent at that time into a Token. Lifetimes
// count from the sending, so that a slow answer makes them shorter, never longer.
func (a tokenAnswer) token(sent time.Time) (Token, error) {
	if a.Access == "" || a.Refresh == "" {
		return Token{}, fmt.Errorf("%w: no access_token or no refresh_token", ErrMalformed)
	}
	t := Token{
		Access: a.Access, Refresh: a.Refresh,
		AccessExpires:      after(sent, a.ExpiresIn),
		RefreshExpires:     after(sent, a.RefreshExpiresIn),
		RefreshHardExpires: after(sent, a.RefreshHardExpires),
	}
	if t.AccessExpires.IsZero() {
		// To refuse the answer would lose the refresh token in it. A lifetime that
		// proves too long ends in a 401, and that in a refresh.
		t.AccessExpires = sent.Add(accessLifetime)
	}
	return t, nil
}

// after adds a number of seconds; zero for anything that is not a lifetime.
func after(sent time.Time, seconds text) time.Time {
	const century = 100 * 365 * 24 * 60 * 60
	n, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || n <= 0 || n > century {
		return time.Time{}
	}
	return sent.Add(time.Duration(n) * time.Second)
}
