package qbosim

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const (
	codeTTL        = 10 * time.Minute
	refreshTTL     = 101 * 24 * time.Hour // from each refresh on
	refreshHardTTL = 5 * 365 * 24 * time.Hour
	keepExpired    = 24 * time.Hour // access tokens, to tell expired from unknown
)

var (
	errInvalidGrant = errors.New("invalid_grant")
	errTokenUnknown = errors.New("Token invalid") //nolint:staticcheck // Intuit's text, shown in a fault
	errTokenExpired = errors.New("Token expired") //nolint:staticcheck // Intuit's text, shown in a fault
)

// tokens is what the OAuth server knows: one line of refresh tokens per realm,
// of which only the newest is good.
type tokens struct {
	sim *Sim

	mu      sync.Mutex // guards the rest
	issued  uint64
	codes   map[string]code
	access  map[string]access
	refresh map[string]string  // every refresh token ever issued → its realm
	grants  map[string]grant   // by realm: the newest; none once revoked
	earlier map[string][]grant // by realm: those of other consents, if they are kept apart
	good    int                // refreshes that succeeded
	goodBy  map[string]int     // those of each realm
	replays int                // refreshes with a replaced token
	refused int                // refreshes with a good token, by a fault or wrong keys
}

type code struct {
	N        uint64 `json:"n"` // as a grant's
	Code     string `json:"code"`
	Redirect string `json:"redirect,omitempty"` // must be named again; "" = any
	// Challenge is PKCE's: the exchange must show its verifier; "" = it must show none.
	Challenge string    `json:"challenge,omitempty"`
	Expires   time.Time `json:"expires"`
	realm     string
}

type access struct {
	realm   string
	consent uint64
	expires time.Time
	shown   bool // a call has come with it
}

// grant is what an exchange or a refresh answers.
type grant struct {
	N              uint64    `json:"n"`                 // of all tokens, which makes them new
	Code           string    `json:"code,omitempty"`    // the one it used up
	Consent        uint64    `json:"consent,omitempty"` // which it is of, if they are kept apart
	Access         string    `json:"access"`
	AccessExpires  time.Time `json:"accessExpires"`
	Refresh        string    `json:"refresh"`
	RefreshExpires time.Time `json:"refreshExpires"`
	HardExpires    time.Time `json:"hardExpires"`
	Rotated        time.Time `json:"rotated"` // when this refresh token was first issued
}

func newTokens(s *Sim) *tokens {
	return &tokens{
		sim: s, codes: map[string]code{}, access: map[string]access{}, refresh: map[string]string{}, grants: map[string]grant{}, earlier: map[string][]grant{}, goodBy: map[string]int{},
	}
}

// Authorize returns an authorisation code for the token endpoint, as if the
// realm's owner had consented. It is good once, for ten minutes. "" if the
// realm is unknown. The realm counts as connected, and its changes make
// webhooks, from the exchange on.
func (s *Sim) Authorize(realm string) (code string) { return s.authorize(realm, "", "") }

func (s *Sim) authorize(realm, redirect, challenge string) string {
	if s.realm(realm) == nil {
		return ""
	}
	t := s.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	c := code{Code: t.nextLocked("AB11", realm), Redirect: redirect, Challenge: challenge, Expires: s.now().Add(codeTTL)}
	c.N = t.issued
	if err := s.journal.append(entry{Realm: realm, Code: &c}); err != nil {
		s.log.Error("authorisation code not kept", zap.Error(err))
		return ""
	}
	t.applyCodeLocked(realm, c)
	return c.Code
}

// Connect does what a consent and an exchange of its code do: the realm is
// connected, and its changes make webhooks. The tokens are "" if the realm is
// unknown.
func (s *Sim) Connect(realm string) (accessToken, refreshToken secret.String) {
	g, _, err := s.tokens.exchange(s.Authorize(realm), "", "")
	if err != nil {
		return "", ""
	}
	return secret.String(g.Access), secret.String(g.Refresh)
}

// ExpireAccess makes every access token that the realm has so far expire now.
func (s *Sim) ExpireAccess(realm string) {
	t := s.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := s.journal.append(entry{Realm: realm, Expired: true}); err != nil {
		s.log.Error("expiry not kept", zap.Error(err))
		return
	}
	t.expireLocked(realm)
}

// RevokeRealm does what the owner's "disconnect" does: no token of the realm
// is good any more and its changes make no webhooks, until a new exchange.
func (s *Sim) RevokeRealm(realm string) {
	t := s.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revokeLocked(realm)
}

// TokenUnheard reports whether nobody has called with the newest access token of a
// connected realm: the answer it was in may be lost, and a new refresh token with it.
func (s *Sim) TokenUnheard(realm string) bool {
	t := s.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.grants[realm]
	return ok && !t.access[g.Access].shown
}

func (t *tokens) connected(realm string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.grants[realm]
	return ok
}

// provenBy compares the challenge of the consent with the verifier of the exchange
// (RFC 7636). A verifier without a challenge is refused: somebody took it away.
func (c code) provenBy(verifier string) bool {
	if c.Challenge == "" || verifier == "" {
		return c.Challenge == verifier
	}
	sum := sha256.Sum256([]byte(verifier))
	return c.Challenge == base64.RawURLEncoding.EncodeToString(sum[:])
}

// exchange uses an authorisation code up. A realm that was connected already
// gets a new line of refresh tokens; the old one ends, but where consents are kept apart.
func (t *tokens) exchange(codeText, redirect, verifier string) (grant, string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.sim.now()
	c, ok := t.codes[codeText]
	if !ok || !now.Before(c.Expires) || c.Redirect != "" && c.Redirect != redirect || !c.provenBy(verifier) {
		return grant{}, "", errInvalidGrant
	}
	g := grant{Code: c.Code, Refresh: t.nextLocked("AB11", c.realm), Rotated: now, HardExpires: now.Add(refreshHardTTL)}
	if t.sim.apart {
		g.Consent = t.issued
	}
	g, err := t.issueLocked(c.realm, g)
	return g, c.realm, err
}

// renew answers a refresh: a new access token, and a new refresh token if the
// old one has reached its age.
func (t *tokens) renew(refresh string) (grant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.sim.now()
	realm, known := t.refresh[refresh]
	g, connected := t.grants[realm]
	if !known || !connected {
		return grant{}, errInvalidGrant
	}
	for _, e := range t.earlier[realm] {
		if e.Refresh == refresh {
			g = e
		}
	}
	if g.Refresh != refresh {
		t.replays++
		return grant{}, errInvalidGrant
	}
	if !now.Before(g.RefreshExpires) || !now.Before(g.HardExpires) {
		return grant{}, errInvalidGrant
	}
	if now.Sub(g.Rotated) >= t.sim.rotateEvery {
		g.Refresh, g.Rotated = t.nextLocked("AB11", realm), now
	}
	g.Code = ""
	g, err := t.issueLocked(realm, g)
	if err == nil {
		t.good++
		t.goodBy[realm]++
	}
	return g, err
}

func (t *tokens) issueLocked(realm string, g grant) (grant, error) {
	now := t.sim.now()
	g.Access, g.AccessExpires = t.nextLocked("eyJ", realm), now.Add(t.sim.accessTTL)
	g.RefreshExpires = now.Add(refreshTTL)
	if g.RefreshExpires.After(g.HardExpires) {
		g.RefreshExpires = g.HardExpires
	}
	g.N = t.issued
	// The journal first: a token that the app holds is good after kill -9.
	if err := t.sim.journal.append(entry{Realm: realm, Grant: &g}); err != nil {
		return grant{}, err
	}
	t.applyGrantLocked(realm, g)
	return g, nil
}

// check says what the realm of an access token is.
func (t *tokens) check(token string) (realm string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.access[token]
	if ok && !a.shown {
		a.shown = true
		t.access[token] = a
	}
	switch {
	case !ok:
		return "", errTokenUnknown
	case !t.sim.now().Before(a.expires):
		return a.realm, errTokenExpired
	}
	return a.realm, nil
}

// revoke takes an access or the newest refresh token, either ends the connection, or no
// more than one consent where they are kept apart. It is false for a token that is not
// known, was replaced or is revoked already.
func (t *tokens) revoke(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.access[token]
	realm, known := t.refresh[token]
	for _, g := range t.allLocked(realm) {
		if known && g.Refresh == token {
			a, ok = access{realm: realm, consent: g.Consent}, true
		}
	}
	switch {
	case !ok:
		return false
	case len(t.earlier[a.realm]) == 0:
		t.revokeLocked(a.realm)
	default:
		t.endLocked(a.realm, a.consent)
	}
	return true
}

// allLocked are the newest grants of each of a realm's consents, the last one used last.
func (t *tokens) allLocked(realm string) []grant {
	return append(slices.Clone(t.earlier[realm]), t.grants[realm])
}

func (t *tokens) realmOf(refresh string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	realm, ok := t.refresh[refresh]
	return realm, ok
}

func (t *tokens) countRefused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
}

func (t *tokens) revokeLocked(realm string) {
	if err := t.sim.journal.append(entry{Realm: realm, Revoked: true}); err != nil {
		t.sim.log.Error("revocation not kept", zap.Error(err))
		return
	}
	t.applyRevokedLocked(realm)
}

// endLocked ends one of several consents.
func (t *tokens) endLocked(realm string, consent uint64) {
	if err := t.sim.journal.append(entry{Realm: realm, Consent: consent}); err != nil {
		t.sim.log.Error("revocation not kept", zap.Error(err))
		return
	}
	t.applyEndedLocked(realm, consent)
}

func (t *tokens) applyEndedLocked(realm string, consent uint64) {
	others := slices.DeleteFunc(t.allLocked(realm), func(g grant) bool { return g.Consent == consent })
	for token, a := range t.access {
		if a.realm == realm && a.consent == consent {
			delete(t.access, token)
		}
	}
	if len(others) == 0 {
		t.applyRevokedLocked(realm)
		return
	}
	t.grants[realm], t.earlier[realm] = others[len(others)-1], others[:len(others)-1]
}

func (t *tokens) applyCodeLocked(realm string, c code) {
	c.realm = realm
	t.codes[c.Code] = c
	t.issued = max(t.issued, c.N)
}

func (t *tokens) applyGrantLocked(realm string, g grant) {
	now := t.sim.now()
	for token, a := range t.access {
		if a.realm == realm && now.Sub(a.expires) > keepExpired {
			delete(t.access, token)
		}
	}
	delete(t.codes, g.Code)
	t.access[g.Access] = access{realm: realm, consent: g.Consent, expires: g.AccessExpires}
	t.refresh[g.Refresh] = realm
	if before, ok := t.grants[realm]; ok && before.Consent != g.Consent {
		others := slices.DeleteFunc(t.earlier[realm], func(e grant) bool { return e.Consent == g.Consent })
		t.earlier[realm] = append(others, before)
	}
	t.grants[realm] = g
	t.issued = max(t.issued, g.N)
}

func (t *tokens) expireLocked(realm string) {
	for token, a := range t.access {
		if a.realm == realm {
			t.access[token] = access{realm: realm, consent: a.consent}
		}
	}
}

func (t *tokens) applyRevokedLocked(realm string) {
	delete(t.grants, realm)
	delete(t.earlier, realm)
	for token, a := range t.access {
		if a.realm == realm {
			delete(t.access, token)
		}
	}
}

// nextLocked makes a token that no one had before: it looks like Intuit's, and
// is the same in every run.
func (t *tokens) nextLocked(prefix, realm string) string {
	t.issued++
	rng := t.sim.draw("token", realm, prefix, count(t.issued))
	raw := make([]byte, 24)
	for i := range raw {
		raw[i] = byte(rng.UintN(256))
	}
	return prefix + count(t.issued) + base64.RawURLEncoding.EncodeToString(raw)
}
