package qbosim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxURL is about where Intuit's gateway stops reading.
const maxURL = 8 << 10

const (
	kindCDC   = "cdc"
	kindQuery = "query"
	kindRead  = "read"
	kindBatch = "batch"
)

// call is one API request that was let in.
type call struct {
	*http.Request
	kind   string
	realm  *realm
	faults *activeFaults
	rng    *rand.Rand
	lag    time.Duration // of the replica that answers it
	now    time.Time     // when it came, by Intuit's clock
	answer *Refusal      // what refuses it; nil: nothing does
}

// endpoint answers a call with a whole JSON body.
type endpoint func(*call) ([]byte, *fault)

func (s *Sim) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v3/company/{realm}/cdc", s.api(kindCDC, s.serveCDC))
	mux.HandleFunc("GET /v3/company/{realm}/query", s.api(kindQuery, s.serveQuery))
	mux.HandleFunc("POST /v3/company/{realm}/query", s.api(kindQuery, s.serveQuery))
	mux.HandleFunc("POST /v3/company/{realm}/batch", s.api(kindBatch, s.serveBatch))
	mux.HandleFunc("GET /v3/company/{realm}/exchangerate", s.api(kindRead, s.serveRate))
	mux.HandleFunc("GET /v3/company/{realm}/{entity}/{id}", s.api(kindRead, s.serveRead))
	mux.HandleFunc("GET /v3/company/{realm}/preferences", s.api(kindRead, s.servePreferences))
	mux.HandleFunc("GET /connect/oauth2", s.authorizePage)
	mux.HandleFunc("POST /oauth2/v1/tokens/bearer", s.bearer)
	mux.HandleFunc("POST /v2/oauth2/tokens/revoke", s.revokeToken)
	s.controlRoutes(mux)
	return mux
}

// api is what every call goes through, whatever it asks: the gateway, the
// counting, the token, the limits and the injected faults.
func (s *Sim) api(kind string, serve endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(r.RequestURI) > maxURL {
			http.Error(w, "Request-URI Too Large", http.StatusRequestURITooLong)
			return
		}
		n, faults := s.calls.Add(1), s.faults.Load()
		c := &call{Request: r, kind: kind, realm: s.realm(r.PathValue("realm")), faults: faults, rng: s.whim(n), lag: s.lag(n, faults), now: s.now()}
		w.Header().Set("Intuit_tid", uuid(c.rng))
		body, f := s.admitted(c, kind, serve)
		if f != nil {
			s.refuse(w, c, f)
			return
		}
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = w.Write(body)
	}
}

func (s *Sim) admitted(c *call, kind string, serve endpoint) ([]byte, *fault) {
	if c.realm == nil {
		if f := s.authenticated(c); f != nil {
			return nil, f
		}
		return nil, forbidden()
	}
	ok := c.realm.meter.enter(kind, s.now(), s.limits)
	defer c.realm.meter.leave()
	if f := s.authenticated(c); f != nil {
		return nil, f
	}
	if !ok {
		return nil, throttled()
	}
	if !pause(c, c.faults.Latency) {
		return nil, systemFault(http.StatusServiceUnavailable)
	}
	refuse, fail := chance(c.rng, c.faults.Error429), chance(c.rng, c.faults.Error5xx)
	switch {
	case refuse:
		return nil, throttled()
	case fail:
		return nil, systemFault(pick(c.rng, []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}))
	}
	if f := c.refused(""); f != nil {
		return nil, f
	}
	if f := acceptable(c); f != nil {
		return nil, f
	}
	return serve(c)
}

// authenticated compares the realm of the token with that of the path.
func (s *Sim) authenticated(c *call) *fault {
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return unauthenticated("Token missing")
	}
	realm, err := s.tokens.check(token)
	if err != nil {
		return unauthenticated(fmt.Sprintf("%v: %s", err, token))
	}
	if realm != c.PathValue("realm") {
		return forbidden()
	}
	return nil
}

// acceptable refuses what Intuit would answer in XML, or not understand.
func acceptable(c *call) *fault {
	accept := c.Header.Get("Accept")
	if !strings.Contains(accept, "application/json") && !strings.Contains(accept, "*/*") {
		return &fault{http.StatusNotAcceptable, "ValidationFault", "2010", "Request has invalid or unsupported property", "Accept: use application/json"}
	}
	if minor := c.URL.Query().Get("minorversion"); minor != "" {
		if _, err := strconv.ParseUint(minor, 10, 16); err != nil {
			return &fault{http.StatusBadRequest, "ValidationFault", "2010", "Request has invalid or unsupported property", "minorversion: " + minor}
		}
	}
	return nil
}

func (s *Sim) refuse(w http.ResponseWriter, c *call, f *fault) {
	if c.realm != nil {
		c.realm.meter.failed()
	}
	if c.answer != nil {
		c.answer.write(w, f, s.now())
		return
	}
	switch f.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="Intuit", error="invalid_token"`)
	case http.StatusTooManyRequests:
		c.realm.meter.refused()
		if after := c.faults.RetryAfter; after > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(math.Ceil(after.Seconds())))
		}
	}
	f.write(w, s.now(), c.rng)
}

// pause is false when the caller has gone.
func pause(c *call, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.Context().Done():
		return false
	}
}
