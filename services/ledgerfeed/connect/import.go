package connect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/tokenimport"
)

const (
	maxToken = 64 << 10
	// maxImport holds some 100,000 lines.
	maxImport = 32 << 20
)

// imported is what became of one company, in JSON.
type imported struct {
	Line    int                 `json:"line,omitempty"`
	Realm   string              `json:"realm"`
	App     string              `json:"app,omitempty"`
	Outcome tokenimport.Outcome `json:"outcome"`
	Error   string              `json:"error,omitempty"`
	// RefreshToken is there for the outcome unstored alone: the only valid token.
	RefreshToken string `json:"refresh_token,omitempty"`
}

func importedOf(r tokenimport.Result) imported {
	out := imported{Line: r.Line, Realm: r.Realm, App: r.App, Outcome: r.Outcome, RefreshToken: r.Token.Refresh.Reveal()}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	return out
}

// importOne takes {"refresh_token": "…", "app": "…"} of the realm of the path.
func (h *Handler) importOne(c echo.Context) error {
	realm := c.Param("realm")
	if !realmID.MatchString(realm) {
		return h.fail(c, badRealm())
	}
	var in struct {
		RefreshToken string `json:"refresh_token"`
		App          string `json:"app"`
	}
	d := json.NewDecoder(http.MaxBytesReader(c.Response(), c.Request().Body, maxToken))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || strings.TrimSpace(in.RefreshToken) == "" {
		// The decoder's error could quote the token.
		return h.fail(c, &problem{status: http.StatusBadRequest, code: "bad_request", title: "Not a token", text: `Send a JSON object with the string "refresh_token" and perhaps "app" alone.`})
	}
	line := tokenimport.Line{Realm: realm, Refresh: secret.String(strings.TrimSpace(in.RefreshToken)), App: in.App}
	var result tokenimport.Result
	// The outcome is in the result; the error is only about going on.
	_ = tokenimport.Run(c.Request().Context(), []tokenimport.Line{line}, tokenimport.Options{
		Connections: h.Connections, App: h.App, Report: func(r tokenimport.Result) error { result = r; return nil },
	})
	status := http.StatusOK
	switch result.Outcome {
	case tokenimport.Failed:
		status = http.StatusUnprocessableEntity
	case tokenimport.Unstored, "":
		status = http.StatusServiceUnavailable
	}
	noStore(c)
	return c.JSON(status, importedOf(result))
}

// importMany takes CSV or JSON lines and answers a line of JSON for each, as they are
// done. What is not answered was not tried: send it again.
func (h *Handler) importMany(c echo.Context) error {
	lines, err := tokenimport.Parse(http.MaxBytesReader(c.Response(), c.Request().Body, maxImport))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return h.fail(c, &problem{status: http.StatusRequestEntityTooLarge, code: "too_large", title: "Too much at once", text: "Send at most 32 MB at a time."})
	case err != nil:
		return h.fail(c, &problem{status: http.StatusBadRequest, code: "bad_request", title: "Not a list of tokens", text: "The body cannot be read: " + err.Error() + "."})
	}
	noStore(c)
	c.Response().Header().Set(echo.HeaderContentType, "application/x-ndjson")
	c.Response().WriteHeader(http.StatusOK)
	out := json.NewEncoder(c.Response())
	err = tokenimport.Run(c.Request().Context(), lines, tokenimport.Options{Connections: h.Connections, App: h.App, Report: func(r tokenimport.Result) error {
		if err := out.Encode(importedOf(r)); err != nil {
			return err
		}
		c.Response().Flush()
		return nil
	}})
	if err != nil && c.Request().Context().Err() == nil {
		// The answer has begun: say it in its last line.
		_ = out.Encode(map[string]string{"error": "broken off, send the rest again: " + err.Error()})
	}
	return nil
}
