package console

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// role says what somebody may do; a higher one may do what a lower one may.
type role int

const (
	nobody role = iota
	viewer
	operator
)

func (r role) String() string { return [...]string{"nobody", "viewer", "operator"}[r] }

// identity is who is asking.
type identity struct {
	Who     string
	Role    role
	session string // the stored name of the session; empty without one
}

// Operator reports whether they may act; for templates.
func (i identity) Operator() bool { return i.Role >= operator }

const (
	sessionCookie = "lf_session"
	sessionBytes  = 32
)

// record is what Redis holds of a session. It says how somebody logged in, not what they
// may do: that follows from the settings at each request.
type record struct {
	Who string `json:"who"`
	// Token identifies the token of the login; empty after one at an issuer.
	Token  []byte   `json:"token,omitempty"`
	Issuer string   `json:"issuer,omitempty"`
	Email  string   `json:"email,omitempty"` // verified
	Groups []string `json:"groups,omitempty"`
	Began  int64    `json:"began"` // Unix seconds
	// Generation is that of all sessions; another one has ended this session.
	Generation string `json:"generation,omitempty"`
}

// sessions are in Redis, each under a name made of the id that only its browser has.
// A reader of Redis cannot use a session, and a writer cannot make one: both lack the key.
type sessions struct {
	store  *state.Store
	config ConsoleConfig
	keys   keys
	now    func() time.Time
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// name is what the session with the id is stored under.
func (s *sessions) name(id string) string { return encode(mac(s.keys.session, id)) }

// nameOf is the name of a request's session, if the request has a cookie of ours.
func (s *sessions) nameOf(r *http.Request) (string, bool) {
	c, err := r.Cookie(s.cookieName(sessionCookie))
	if err != nil {
		return "", false
	}
	id, signature, _ := strings.Cut(c.Value, ".")
	return s.name(id), hmac.Equal([]byte(signature), []byte(encode(mac(s.keys.cookie, id))))
}

// create stores a session and returns its cookie.
func (s *sessions) create(ctx context.Context, r record) (*http.Cookie, error) {
	raw := make([]byte, sessionBytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("create a session id: %w", err)
	}
	generation, err := s.store.SessionGeneration(ctx)
	if err != nil {
		return nil, err
	}
	r.Began, r.Generation = s.now().Unix(), generation
	id := encode(raw)
	name := s.name(id)
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	sealed := encode(mac(s.keys.record, name, string(text))) + "." + string(text)
	if err := s.store.SaveSession(ctx, name, sealed, s.config.SessionIdle); err != nil {
		return nil, err
	}
	return s.set(sessionCookie, id+"."+encode(mac(s.keys.cookie, id)), s.config.SessionMax), nil
}

// read is who a request's cookie belongs to, and counts as use of the session; nobody
// without a session.
func (s *sessions) read(r *http.Request) (identity, error) {
	name, ok := s.nameOf(r)
	if !ok {
		return identity{}, nil
	}
	return s.lookUp(r.Context(), name, s.config.SessionIdle)
}

// check is who a session that was read before belongs to now. It does not count as use,
// so that an open page keeps no session alive.
func (s *sessions) check(ctx context.Context, name string) (identity, error) {
	return s.lookUp(ctx, name, 0)
}

// lookUp extends the time until the session counts as idle, unless extend is 0.
func (s *sessions) lookUp(ctx context.Context, name string, extend time.Duration) (identity, error) {
	sealed, generation, err := s.store.Session(ctx, name, extend)
	if err != nil || sealed == "" {
		return identity{}, err
	}
	r, ok := s.open(name, sealed)
	if !ok || r.Generation != generation || s.now().Sub(time.Unix(r.Began, 0)) >= s.config.SessionMax {
		return identity{}, nil
	}
	if role := s.roleOf(r); role > nobody {
		return identity{Who: r.Who, Role: role, session: name}, nil
	}
	return identity{}, nil
}

// open returns the record if this console, or another with the same key, wrote it under
// that name.
func (s *sessions) open(name, sealed string) (r record, ok bool) {
	signature, text, _ := strings.Cut(sealed, ".")
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(given, mac(s.keys.record, name, text)) {
		return record{}, false
	}
	return r, json.Unmarshal([]byte(text), &r) == nil
}

// roleOf is what the settings of now make of a login.
func (s *sessions) roleOf(r record) role {
	if len(r.Token) == 0 {
		if r.Issuer == "" || r.Issuer != s.config.OIDCIssuer {
			return nobody
		}
		return max(s.config.byEmail(r.Email), s.config.byGroups(r.Groups))
	}
	switch {
	case s.isToken(r.Token, s.config.Token):
		return operator
	case s.isToken(r.Token, s.config.ViewerToken):
		return viewer
	}
	return nobody
}

func (s *sessions) isToken(mark []byte, token secret.String) bool {
	return token != "" && hmac.Equal(mark, s.markOf(token.Reveal()))
}

// markOf identifies a token without giving it away.
func (s *sessions) markOf(token string) []byte { return mac(s.keys.token, token) }

// end ends the session of a request, if it has one.
func (s *sessions) end(r *http.Request) error {
	name, ok := s.nameOf(r)
	if !ok {
		return nil
	}
	return s.store.EndSession(r.Context(), name)
}

// cookieName has the prefix that keeps other hosts of the domain from setting the cookie,
// which browsers allow over HTTPS only.
func (s *sessions) cookieName(name string) string {
	if s.config.secure() {
		return "__Host-" + name
	}
	return name
}

// set makes a cookie; one with no time to live is deleted.
func (s *sessions) set(name, value string, life time.Duration) *http.Cookie {
	age := int(life / time.Second)
	if age == 0 {
		age = -1
	}
	return &http.Cookie{
		Name: s.cookieName(name), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.config.secure(), SameSite: http.SameSiteStrictMode,
	}
}

// same compares in constant time.
func same(given string, want secret.String) bool {
	if want == "" {
		return false
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// byToken is whose token it is.
func (c ConsoleConfig) byToken(token string) identity {
	switch {
	case same(token, c.Token):
		return identity{Who: "operator (token)", Role: operator}
	case same(token, c.ViewerToken):
		return identity{Who: "viewer (token)", Role: viewer}
	}
	return identity{}
}
