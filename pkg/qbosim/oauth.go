package qbosim

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

const (
	accountingScope = "com.intuit.quickbooks.accounting"
	// challengeLength is that of the base64 of a SHA-256.
	challengeLength = 43
)

// authorizePage is Intuit's consent page. The owner agrees at once, or is asked
// (Options.AskConsent). The company is the query's realmId, else the first that
// is not connected.
func (s *Sim) authorizePage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	challenge, method := q.Get("code_challenge"), q.Get("code_challenge_method")
	switch {
	case s.clientID != "" && q.Get("client_id") != s.clientID:
		http.Error(w, "client_id: no such app", http.StatusBadRequest)
	case err != nil || !redirect.IsAbs() || len(s.redirects) > 0 && !slices.Contains(s.redirects, q.Get("redirect_uri")):
		http.Error(w, "redirect_uri: not one of the app's", http.StatusBadRequest)
	case q.Get("response_type") != "code":
		http.Error(w, "response_type: use code", http.StatusBadRequest)
	case !slices.Contains(strings.Fields(q.Get("scope")), accountingScope):
		http.Error(w, "scope: "+accountingScope+" is missing", http.StatusBadRequest)
	case q.Get("state") == "":
		http.Error(w, "state: missing", http.StatusBadRequest)
	case challenge == "" && (s.requirePKCE || method != ""):
		http.Error(w, "code_challenge: missing", http.StatusBadRequest)
	case challenge != "" && (method != "S256" || len(challenge) != challengeLength):
		http.Error(w, "code_challenge: use S256", http.StatusBadRequest)
	case s.askConsent && q.Get(decisionField) == "":
		s.askOwner(w, q)
	case q.Get(decisionField) == refusal:
		sendBack(w, r, redirect, url.Values{"error": {"access_denied"}, "state": {q.Get("state")}})
	default:
		realm := s.consenting(q.Get("realmId"))
		code := s.authorize(realm, q.Get("redirect_uri"), challenge)
		if code == "" {
			http.Error(w, "realmId: no such company", http.StatusNotFound)
			return
		}
		sendBack(w, r, redirect, url.Values{"code": {code}, "state": {q.Get("state")}, "realmId": {realm}})
	}
}

// sendBack goes to where the app wants to hear the outcome.
func sendBack(w http.ResponseWriter, r *http.Request, redirect *url.URL, outcome url.Values) {
	back := redirect.Query()
	for key, values := range outcome {
		back[key] = values
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (s *Sim) consenting(asked string) string {
	realms := s.Realms()
	if asked != "" || len(realms) == 0 {
		return asked
	}
	for _, id := range realms {
		if !s.tokens.connected(id) {
			return id
		}
	}
	return realms[0]
}

// bearer is the token endpoint: exchange and refresh.
func (s *Sim) bearer(w http.ResponseWriter, r *http.Request) {
	client, ok := s.authenticClient(w, r)
	if !ok {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request", "")
		return
	}
	var g grant
	var err error
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		if client != s.clientID { // a code is its app's alone too
			oauthError(w, http.StatusBadRequest, "invalid_grant", WrongClient)
			return
		}
		g, _, err = s.tokens.exchange(r.PostForm.Get("code"), r.PostForm.Get("redirect_uri"), r.PostForm.Get("code_verifier"))
	case "refresh_token":
		refresh := r.PostForm.Get("refresh_token")
		if description, refused := s.refusesRefresh(client, refresh); refused {
			oauthError(w, http.StatusBadRequest, "invalid_grant", description)
			return
		}
		g, err = s.tokens.renew(refresh)
	default:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type", "")
		return
	}
	if errors.Is(err, errInvalidGrant) {
		s.refuseGrant(w)
		return
	}
	if err != nil {
		oauthError(w, http.StatusInternalServerError, "server_error", "")
		return
	}
	now := s.now()
	answer := map[string]any{
		"token_type": "bearer", "access_token": g.Access, "expires_in": seconds(g.AccessExpires.Sub(now)),
		"refresh_token": g.Refresh, "x_refresh_token_expires_in": seconds(g.RefreshExpires.Sub(now)),
	}
	if r.Header.Get("X-Include-Refresh-Token-Hard-Expires-In") == "true" {
		answer["x_refresh_token_hard_expires_in"] = seconds(g.HardExpires.Sub(now))
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Sim) revokeToken(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.authenticClient(w, r); !ok {
		return
	}
	var asked struct{ Token string }
	body := http.MaxBytesReader(w, r.Body, 64<<10)
	// Malformed, unknown and revoked already are answered alike: 400 proves nothing.
	if err := json.NewDecoder(body).Decode(&asked); err != nil || s.faults.Load().RefuseRevoke || !s.tokens.revoke(asked.Token) {
		oauthError(w, http.StatusBadRequest, "invalid_request", "")
		return
	}
	w.WriteHeader(http.StatusOK)
}

// refusesRefresh reports whether a refresh is refused though its token is good: by the
// faults, or since the keys are another app's.
func (s *Sim) refusesRefresh(client, refresh string) (description string, refused bool) {
	if client != s.clientID {
		s.tokens.countRefused()
		return WrongClient, true
	}
	realm, known := s.tokens.realmOf(refresh)
	if !known {
		return "", false
	}
	description, refused = s.faults.Load().refusedRefresh(realm, s.now())
	if refused {
		s.tokens.countRefused()
	}
	return description, refused
}

// authenticClient gives the answer its id and checks an app's id and secret, which come as Basic auth, and returns
// the id.
func (s *Sim) authenticClient(w http.ResponseWriter, r *http.Request) (id string, ok bool) {
	w.Header().Set("Intuit_tid", "1-oauth-"+count(s.oauth.Add(1)))
	id, password, ok := r.BasicAuth()
	switch {
	case ok && s.clientID == "":
		return "", true
	case ok && id == s.clientID && password == s.clientSecret.Reveal():
		return id, true
	case ok && slices.Contains(s.others, Client{ID: id, Secret: secret.String(password)}):
		return id, true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="Intuit"`)
	oauthError(w, http.StatusUnauthorized, "invalid_client", "")
	return "", false
}

// refuseGrant answers in one of the forms that were recorded.
func (s *Sim) refuseGrant(w http.ResponseWriter) {
	oauthError(w, http.StatusBadRequest, "invalid_grant", grantDescription(s.whim(s.calls.Add(1))))
}

func oauthError(w http.ResponseWriter, status int, name, description string) {
	answer := map[string]any{"error": name}
	if description != "" {
		answer["error_description"] = description
	}
	writeJSON(w, status, answer)
}

func seconds(d time.Duration) int64 { return int64(d.Round(time.Second) / time.Second) }
