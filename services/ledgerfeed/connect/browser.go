package connect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// browser is a secret that only one browser has, in a cookie. Several consents may
// be under way in it.
type browser secret.String

const browserSize = 32

// browser is that of the request; a browser that has none is given one.
func (h *Handler) browser(c echo.Context) (browser, error) {
	if b, ok := h.known(c); ok {
		h.keep(c, b)
		return b, nil
	}
	raw := make([]byte, browserSize)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("create a browser secret: %w", err)
	}
	b := browser(base64.RawURLEncoding.EncodeToString(raw))
	h.keep(c, b)
	return b, nil
}

// known is the browser of the request, if it has a cookie of ours.
func (h *Handler) known(c echo.Context) (browser, bool) {
	cookie, err := c.Cookie(h.cookieName())
	if err != nil {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	return browser(cookie.Value), err == nil && len(raw) == browserSize
}

// keep sets the cookie for as long as a consent may take. Lax, not Strict: Intuit's
// page is another site, and leads back.
func (h *Handler) keep(c echo.Context, b browser) {
	c.SetCookie(&http.Cookie{
		Name: h.cookieName(), Value: string(b), Path: "/", MaxAge: int(connection.ConsentTime.Seconds()),
		Secure: h.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// cookieName has the prefix that keeps other hosts of the domain from setting it,
// which browsers allow over HTTPS only.
func (h *Handler) cookieName() string {
	if h.secure() {
		return "__Host-ledgerfeed-connect"
	}
	return "ledgerfeed-connect"
}

// secure: browsers come by HTTPS, perhaps to a proxy.
func (h *Handler) secure() bool { return h.redirect.Scheme == "https" }

// digest is what may be stored of it.
func (b browser) digest() string {
	sum := sha256.Sum256([]byte("ledgerfeed browser\x00" + string(b)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (b browser) is(digest string) bool {
	return subtle.ConstantTimeCompare([]byte(b.digest()), []byte(digest)) == 1
}

// verifier is PKCE's for one consent, 43 characters; "" without PKCE. It is made of
// what only the browser has, so that it need not be stored.
func (h *Handler) verifier(b browser, state string) secret.String {
	if !h.PKCE {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(b))
	mac.Write([]byte("ledgerfeed pkce\x00" + state))
	return secret.String(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}
