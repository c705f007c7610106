package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

// Options are what [New] needs. Connections, OAuth (with a redirect URL) and App are
// required.
type Options struct {
	Connections *connection.Store
	OAuth       *qbo.OAuth
	// App is the name of the Intuit app, as in ingress.apps.
	App string
	// Config says who may be connected, and which consents wait; the zero value lets every
	// company connect at once.
	Config Config
	// PKCE binds the code to the browser (RFC 7636).
	PKCE bool
	// Company returns the name of the company a token is for, which proves it; after an
	// error nothing is connected. See [CompanyName]. Nil asks nothing: a company may then be connected under the id of
	// another, whose reads Intuit refuses.
	Company func(ctx context.Context, realm string, token qbo.Token) (string, error)
	// Names are the names of companies that a scan has read, by realm, for the pages; nil
	// shows ids alone.
	Names func(ctx context.Context, realms []string) (map[string]string, error)
	// RealmURL is the page of a realm to go to once it is connected, and to link to;
	// nil for none.
	RealmURL func(realm string) string
	Logger   *zap.Logger
}

// Handler serves the routes. It is safe for concurrent use and needs no closing.
type Handler struct {
	Options
	redirect *url.URL
	origins  *http.CrossOriginProtection
	begun    *rate.Limiter
	checks   *rate.Limiter
	log      *zap.Logger
}

const (
	// Consents begun and disconnects reported a second and at once, by one process: each
	// is remembered for a while, and anybody may send them.
	beginRate, beginBurst = 10, 200
	// exchangeTime bounds what a callback does.
	exchangeTime = time.Minute
)

var realmID = regexp.MustCompile(`^[0-9]{1,32}$`)

// New makes a handler.
func New(o Options) (*Handler, error) {
	if o.Connections == nil || o.OAuth == nil || o.App == "" {
		return nil, errors.New("connect: Connections, OAuth and App are required")
	}
	redirect, err := url.Parse(o.OAuth.RedirectURL())
	if err != nil || redirect.Host == "" {
		return nil, fmt.Errorf("qbo.redirect_url %q: give the address of /connect/callback as browsers reach it, the one that is registered in the portal", o.OAuth.RedirectURL())
	}
	h := &Handler{
		Options: o, redirect: redirect, origins: http.NewCrossOriginProtection(),
		begun: rate.NewLimiter(beginRate, beginBurst), checks: rate.NewLimiter(beginRate, beginBurst), log: o.Logger,
	}
	if h.log == nil {
		h.log = zap.NewNop()
	}
	if err := h.origins.AddTrustedOrigin(redirect.Scheme + "://" + redirect.Host); err != nil {
		return nil, fmt.Errorf("qbo.redirect_url: %w", err)
	}
	return h, nil
}

// Register adds all routes. Put a login in front of them.
func (h *Handler) Register(g *echo.Group) {
	h.RegisterPublic(g)
	g.GET("/realms/:realm/disconnect", h.askDisconnect)
	g.POST("/realms/:realm/disconnect", h.disconnect, h.sameSite)
	g.POST("/realms/:realm/token", h.importOne, h.sameSite)
	g.POST("/tokens", h.importMany, h.sameSite)
}

// RegisterPublic adds the routes that people and Intuit need who have no login here.
func (h *Handler) RegisterPublic(g *echo.Group) {
	g.GET("/connect", h.begin)
	g.GET("/connect/callback", h.callback)
	g.GET("/disconnected", h.reported)
}

// sameSite refuses what the page of another site sends in a person's name.
func (h *Handler) sameSite(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := h.origins.Check(c.Request()); err != nil {
			return h.fail(c, &problem{status: http.StatusForbidden, code: "cross_site", title: "Not from here", text: "This request came from the page of another site. Open the page here and try again.", cause: err})
		}
		return next(c)
	}
}
