package console

import (
	"bytes"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

var (
	//go:embed pages/*.html
	pageFiles embed.FS
	//go:embed assets
	assetFiles embed.FS
)

type templates map[string]*template.Template

// parseTemplates reads each page together with the frame around it.
func parseTemplates() (templates, error) {
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return nil, err
	}
	all := templates{}
	for _, name := range names {
		if path.Base(name) == "layout.html" {
			continue
		}
		t, err := template.New("layout.html").Funcs(functions()).ParseFS(pageFiles, "pages/layout.html", name)
		if err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return all, nil
}

// shown is what a template gets.
type shown struct {
	Title   string
	Nav     string
	Path    string
	Who     identity
	Login   bool
	Note    string
	Version string
	Data    any
}

const noteCookie = "lf_note"

func (s *Server) shown(c echo.Context, title, nav string, data any) shown {
	return shown{
		Title: title, Nav: nav, Path: c.Request().URL.Path, Who: who(c), Login: s.o.Config.login(),
		Version: lifecycle.Version(), Data: data,
	}
}

func (s *Server) render(c echo.Context, status int, name, title, nav string, data any) error {
	v := s.shown(c, title, nav, data)
	if cookie, err := c.Cookie(s.sessions.cookieName(noteCookie)); err == nil {
		text, _ := base64.RawURLEncoding.DecodeString(cookie.Value) // one that is not ours shows nothing
		v.Note = string(text)
		c.SetCookie(s.sessions.set(noteCookie, "", 0))
	}
	var page bytes.Buffer
	if err := s.templates[name].ExecuteTemplate(&page, "layout.html", v); err != nil {
		return fmt.Errorf("write page %s: %w", name, err)
	}
	return c.HTMLBlob(status, page.Bytes())
}

// wantsJSON: the API, and clients that take no pages.
func wantsJSON(c echo.Context) bool { return strings.HasPrefix(c.Request().URL.Path, "/api/") }

// trouble is what went wrong, for people.
type trouble struct {
	Error  string `json:"error"`
	Detail string `json:"detail"`
}

// problem is an answer that says what to do.
func problem(status int, title, text string) *echo.HTTPError {
	return echo.NewHTTPError(status, trouble{title, text})
}

// failed answers a request that went wrong. What the servers said is for the log.
func (s *Server) failed(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, t := explain(err)
	if status >= http.StatusInternalServerError {
		s.log.Warn("request failed", zap.String("path", c.Path()), zap.Error(err))
	}
	if c.Request().Method == http.MethodHead {
		_ = c.NoContent(status)
		return
	}
	var write error
	if wantsJSON(c) {
		write = c.JSON(status, t)
	} else {
		write = s.render(c, status, "problem", t.Error, "", t)
	}
	if write != nil {
		s.log.Debug("answer not written", zap.Error(write))
	}
}

func explain(err error) (int, trouble) {
	var he *echo.HTTPError
	switch {
	case errors.As(err, &he):
		if t, ok := he.Message.(trouble); ok {
			return he.Code, t
		}
		switch he.Code {
		case http.StatusNotFound:
			return he.Code, trouble{"No such page", "There is nothing at this address. The menu leads to all there is."}
		case http.StatusMethodNotAllowed:
			return he.Code, trouble{"Not that way", "This address does not take this method. See /api/v1/openapi.json."}
		}
		return he.Code, trouble{http.StatusText(he.Code), fmt.Sprint(he.Message)}
	case errors.Is(err, connection.ErrNotConnected):
		return http.StatusNotFound, trouble{"No such company", "A company of that id was never connected. Look for it on the page Realms."}
	case errors.Is(err, stream.ErrNoDeadLetter):
		return http.StatusNotFound, trouble{"No such dead letter", "It was requeued, purged, or it is too old. The page Dead letters lists those there are."}
	case errors.Is(err, state.ErrUnreachable):
		return http.StatusServiceUnavailable, trouble{"Redis does not answer", "Nothing can be shown without it; the feed goes on when it is back and loses nothing. Look at the server that redis.url names."}
	case errors.Is(err, stream.ErrUnreachable), errors.Is(err, stream.ErrClosed):
		return http.StatusServiceUnavailable, trouble{"NATS does not answer", "The feed goes on when it is back and loses nothing: meanwhile webhooks are answered 503, and Intuit sends them again. Look at the servers that nats.url names."}
	}
	return http.StatusInternalServerError, trouble{"That did not work", "Redis or NATS did not answer as it should; the log of the console says more. Try again in a while."}
}

// done ends an action: JSON to the API, else the page it came from with a note.
func (s *Server) done(c echo.Context, r result) error {
	if wantsJSON(c) {
		return c.JSON(http.StatusOK, r)
	}
	c.SetCookie(s.sessions.set(noteCookie, base64.RawURLEncoding.EncodeToString([]byte(r.Message)), time.Minute))
	return c.Redirect(http.StatusSeeOther, ownPath(r.Back))
}

func asset(c echo.Context) error {
	name := c.Param("name")
	b, err := assetFiles.ReadFile("assets/" + path.Base(name))
	if err != nil {
		return echo.ErrNotFound
	}
	kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	if kind == "" {
		kind = "text/plain; charset=utf-8"
	}
	c.Response().Header().Set("Cache-Control", "max-age=3600")
	return c.Blob(http.StatusOK, kind, b)
}
