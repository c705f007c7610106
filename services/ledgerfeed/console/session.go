package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
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
	Who  string `json:"w"`
	Role role   `json:"r"`
	Till int64  `json:"t"` // Unix seconds
}

// Operator reports whether they may act; for templates.
func (i identity) Operator() bool { return i.Role >= operator }

const (
	sessionCookie = "lf_session"
	sessionTime   = 12 * time.Hour
)

// sessions signs and reads cookies. The key is made from the secrets of the login: all
// consoles of a feed agree on it, and a new token ends every session.
type sessions struct {
	key    []byte
	secure bool
	now    func() time.Time
}

func newSessions(c ConsoleConfig, now func() time.Time) *sessions {
	h := sha256.New()
	h.Write([]byte("ledgerfeed console session 1"))
	for _, s := range []secret.String{c.Token, c.ViewerToken, c.OIDCSecret} {
		sum := sha256.Sum256([]byte(s.Reveal()))
		h.Write(sum[:])
	}
	return &sessions{key: h.Sum(nil), secure: c.secure(), now: now}
}

func (s *sessions) sign(payload string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookie is a new session of id.
func (s *sessions) cookie(id identity) *http.Cookie {
	id.Till = s.now().Add(sessionTime).Unix()
	text, _ := json.Marshal(id) // strings and numbers always encode
	payload := base64.RawURLEncoding.EncodeToString(text)
	return s.set(sessionCookie, payload+"."+s.sign(payload), sessionTime)
}

// read is who a request's cookie says; nobody without a good one.
func (s *sessions) read(r *http.Request) (id identity) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return identity{}
	}
	payload, signature, _ := strings.Cut(c.Value, ".")
	if !hmac.Equal([]byte(signature), []byte(s.sign(payload))) {
		return identity{}
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &id) != nil || s.now().Unix() >= id.Till || id.Role < viewer || id.Role > operator {
		return identity{}
	}
	return id
}

// set makes a cookie; one with no time to live is deleted.
func (s *sessions) set(name, value string, life time.Duration) *http.Cookie {
	age := int(life / time.Second)
	if age == 0 {
		age = -1
	}
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteStrictMode}
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
