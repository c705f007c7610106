package qbo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// OAuthError is an error answer of Intuit's OAuth endpoints. Its texts hold no
// token.
type OAuthError struct {
	Status int
	// Code is RFC 6749's word ("invalid_grant", "invalid_client"); may be empty.
	Code        string
	Description string
	TID         string // Intuit's id of the call; may be empty

	revoke bool // the revoke endpoint's
}

// Error implements error.
func (e *OAuthError) Error() string {
	parts := []string{fmt.Sprintf("intuit answered %d", e.Status)}
	for _, part := range []string{e.Code, e.Description} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.TID != "" {
		parts = append(parts, "intuit_tid "+e.TID)
	}
	return strings.Join(parts, ": ")
}

// Is makes errors.Is(err, ErrInvalidGrant) work.
func (e *OAuthError) Is(target error) bool {
	return target == ErrInvalidGrant && e.Code == ErrInvalidGrant.Error()
}

// decodeOAuthError reads the answer to a failed request; sent is the token or
// code in it.
func decodeOAuthError(status int, header http.Header, body []byte, sent secret.String) *OAuthError {
	wire, err := oauthErrorIn(trim(body))
	if err != nil || wire.Error == "" && wire.Description == "" {
		wire.Description = text(fmt.Sprintf("no OAuth error in the body (%s, %d bytes)", header.Get("Content-Type"), len(body)))
	}
	return &OAuthError{
		Status: status, TID: tid(header),
		Code:        clean(without(string(wire.Error), sent)),
		Description: clean(without(string(wire.Description), sent)),
	}
}

type oauthErrorWire struct {
	Error       text `json:"error"`
	Description text `json:"error_description"`
}

// oauthErrorIn reads an object, or the first of an array: Intuit has sent
// [{"error_description":"Incorrect Token type or clientID","error":"invalid_grant"}]
// (intuit/QuickBooks-V3-PHP-SDK#240).
func oauthErrorIn(body []byte) (wire oauthErrorWire, err error) {
	var all []oauthErrorWire
	if json.Unmarshal(body, &all) == nil && len(all) > 0 {
		return all[0], nil
	}
	err = json.Unmarshal(body, &wire)
	return wire, err
}

func without(s string, hidden secret.String) string {
	if hidden == "" {
		return s
	}
	return strings.ReplaceAll(s, hidden.Reveal(), redacted)
}
