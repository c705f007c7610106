package connect

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS  string
	pageTmpl = template.Must(template.New("page").Parse(pageHTML))
	// policy lets the page have its own style and forms, and nothing else.
	policy = "default-src 'none'; style-src 'sha256-" + digestOf(pageCSS) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// view is what a page shows: one of its fields.
type view struct {
	Start        bool
	Connected    *connected
	Ask          *connection.Connection
	Disconnected *disconnected
	Reported     bool
	Problem      *problem
}

// shown is a view and where it stands.
type shown struct {
	view
	Title string
	Style template.CSS
	// Base is the path the group of routes begins at, "" or "/x".
	Base string
	// Realm is the company the page is about, if any, Name its name, if it is known, and
	// RealmURL its page.
	Realm    string
	Name     string
	RealmURL string
}

// page writes a page.
func (h *Handler) page(c echo.Context, status int, v view) error {
	s := shown{view: v, Title: v.title(), Style: template.CSS(pageCSS), Base: base(c), Realm: v.realm()}
	if s.Realm != "" && h.RealmURL != nil {
		s.RealmURL = h.RealmURL(s.Realm)
	}
	if s.Realm != "" && h.Names != nil {
		names, err := h.Names(c.Request().Context(), []string{s.Realm})
		if err != nil {
			h.log.Debug("company name not read", telemetry.Realm(s.Realm), telemetry.Error(err))
		}
		s.Name = names[s.Realm]
	}
	var page bytes.Buffer
	if err := pageTmpl.Execute(&page, s); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	c.Response().Header().Set("Content-Security-Policy", policy)
	return c.HTMLBlob(status, page.Bytes())
}

// start is a page to begin at, for a server that has no other.
func (h *Handler) start(c echo.Context) error {
	noStore(c)
	return h.page(c, http.StatusOK, view{Start: true})
}

// RegisterStart adds a page at / with the button to begin.
func (h *Handler) RegisterStart(g *echo.Group) { g.GET("/", h.start) }

func (v view) title() string {
	switch {
	case v.Connected != nil && v.Connected.Waits():
		return "Waits for approval"
	case v.Connected != nil && v.Connected.Again:
		return "Connected again"
	case v.Connected != nil:
		return "Connected"
	case v.Ask != nil:
		return "Disconnect a company"
	case v.Disconnected != nil:
		return "Disconnected"
	case v.Reported:
		return "Disconnected from QuickBooks"
	case v.Problem != nil:
		return v.Problem.title
	}
	return "Connect QuickBooks"
}

func (v view) realm() string {
	switch {
	case v.Connected != nil:
		return v.Connected.Realm
	case v.Ask != nil:
		return v.Ask.RealmID
	case v.Disconnected != nil:
		return v.Disconnected.Realm
	}
	return ""
}

// Waits reports whether a person must approve it first.
func (c *connected) Waits() bool { return c.State == string(connection.Pending) }

// Message and Forget are for the page, which cannot see the fields.
func (p *problem) Message() string { return p.text }

// Forget is the realm that can be forgotten instead, or "".
func (p *problem) Forget() string { return p.forget }

// base is what stands before our part of the route.
func base(c echo.Context) string {
	for _, route := range []string{"/connect/callback", "/connect", "/disconnected", "/realms/:realm/disconnect", "/"} {
		if before, ok := strings.CutSuffix(c.Path(), route); ok {
			return before
		}
	}
	return ""
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}
