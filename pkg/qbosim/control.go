package qbosim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxControl bounds the body of a control request: a record of several megabytes fits.
const maxControl = 32 << 20

// flushTimeout bounds POST /sim/flush.
const flushTimeout = 30 * time.Second

func (s *Sim) controlRoutes(outer *http.ServeMux) {
	mux := http.NewServeMux()
	outer.Handle("/sim/", ownSite(mux))
	mux.HandleFunc("GET /sim/realms", control(func(*http.Request, struct{}) (any, error) { return s.Realms(), nil }))
	mux.HandleFunc("POST /sim/realms", control(s.controlRealm))
	mux.HandleFunc("POST /sim/realms/{realm}/authorize", control(s.controlAuthorize))
	mux.HandleFunc("POST /sim/realms/{realm}/expire", control(s.controlToken(s.ExpireAccess)))
	mux.HandleFunc("POST /sim/realms/{realm}/revoke", control(s.controlToken(s.RevokeRealm)))
	mux.HandleFunc("POST /sim/change", control(s.controlChange))
	mux.HandleFunc("POST /sim/step", control(s.controlStep))
	mux.HandleFunc("POST /sim/populate", control(func(_ *http.Request, in struct{ Realm string }) (any, error) { return s.Populate(in.Realm) }))
	mux.HandleFunc("POST /sim/forge", control(s.controlForge))
	mux.HandleFunc("POST /sim/unknown", control(s.controlUnknown))
	mux.HandleFunc("GET /sim/truth", control(s.controlTruth))
	mux.HandleFunc("GET /sim/history", control(s.controlHistory))
	mux.HandleFunc("GET /sim/stats", control(func(*http.Request, struct{}) (any, error) { return s.Stats(), nil }))
	mux.HandleFunc("GET /sim/faults", control(func(*http.Request, struct{}) (any, error) { return s.Faults(), nil }))
	mux.HandleFunc("PUT /sim/faults", control(s.controlFaults))
	mux.HandleFunc("POST /sim/load", control(s.controlLoad))
	mux.HandleFunc("PUT /sim/webhook", control(s.controlWebhook))
	mux.HandleFunc("GET /sim/subscriptions", control(func(*http.Request, struct{}) (any, error) { return s.subscriptions(), nil }))
	mux.HandleFunc("PUT /sim/subscriptions", control(s.controlSubscriptions))
	mux.HandleFunc("GET /sim/recorded", control(func(*http.Request, struct{}) (any, error) { return RecordedResponses(), nil }))
	mux.HandleFunc("POST /sim/flush", control(s.controlFlush))
	mux.HandleFunc("GET /sim/settled", control(func(*http.Request, struct{}) (any, error) { return s.Settled(), nil }))
}

// ownSite refuses what the page of another site sends: by a form or a script of that
// site, or by a name of that site which it makes lead to this machine.
func ownSite(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownHost(r.Host) {
			controlError(w, http.StatusMisdirectedRequest, fmt.Errorf("host %q: use localhost, an address, or a name of this network", r.Host))
			return
		}
		if err := origins.Check(r); err != nil {
			controlError(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header is an address or a name that nobody can register:
// the owner of a public name decides which address it leads to.
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return true
	}
	for _, private := range []string{".localhost", ".local", ".internal", ".svc"} {
		if strings.HasSuffix(host, private) {
			return true
		}
	}
	return false
}

// control decodes the body of a POST or PUT into In and answers with JSON.
func control[In any](serve func(*http.Request, In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if r.Method != http.MethodGet && r.ContentLength != 0 {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil {
				controlError(w, http.StatusBadRequest, err)
				return
			}
		}
		out, err := serve(r, in)
		switch {
		case errors.Is(err, ErrUnknownRealm), errors.Is(err, ErrUnknownEntity), errors.Is(err, ErrNotFound):
			controlError(w, http.StatusNotFound, err)
		case errors.Is(err, context.DeadlineExceeded):
			controlError(w, http.StatusGatewayTimeout, err)
		case errors.Is(err, errClosed):
			controlError(w, http.StatusServiceUnavailable, err)
		case err != nil:
			controlError(w, http.StatusBadRequest, err)
		default:
			writeJSON(w, http.StatusOK, out)
		}
	}
}

func controlError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func (s *Sim) controlRealm(_ *http.Request, in struct{ ID string }) (any, error) {
	if err := s.addRealm(in.ID); err != nil {
		return nil, err
	}
	return s.Realms(), nil
}

func (s *Sim) known(realm string) error {
	if s.realm(realm) == nil {
		return fmt.Errorf("realm %q: %w", realm, ErrUnknownRealm)
	}
	return nil
}

func (s *Sim) controlAuthorize(r *http.Request, _ struct{}) (any, error) {
	realm := r.PathValue("realm")
	if err := s.known(realm); err != nil {
		return nil, err
	}
	return map[string]string{"realmId": realm, "code": s.Authorize(realm)}, nil
}

func (s *Sim) controlToken(fault func(realm string)) func(*http.Request, struct{}) (any, error) {
	return func(r *http.Request, _ struct{}) (any, error) {
		realm := r.PathValue("realm")
		if err := s.known(realm); err != nil {
			return nil, err
		}
		fault(realm)
		return map[string]string{"realmId": realm}, nil
	}
}

// changeRequest is what POST /sim/change takes.
type changeRequest struct {
	Operation string         `json:"operation"`
	Realm     string         `json:"realm"`
	Entity    string         `json:"entity"`
	ID        string         `json:"id"`
	MergedID  string         `json:"mergedId"`
	Silent    bool           `json:"silent"`
	Fields    map[string]any `json:"fields"`
}

func (s *Sim) controlChange(_ *http.Request, in changeRequest) (any, error) {
	ref := Ref{Realm: in.Realm, Entity: in.Entity, ID: in.ID}
	var err error
	switch in.Operation {
	case "create":
		ref, err = s.Create(in.Realm, in.Entity, in.Fields)
	case "update":
		err = s.Update(ref, in.Fields)
	case "delete":
		err = s.Delete(ref)
	case "harddelete":
		err = s.HardDelete(ref)
	case "deactivate":
		err = s.Deactivate(ref)
	case "void":
		err = s.Void(ref)
	case "email":
		err = s.Email(ref)
	case "merge":
		err = s.Merge(ref, Ref{Realm: in.Realm, Entity: in.Entity, ID: in.MergedID})
	case "derive":
		err = s.Derive(ref, in.Silent)
	default:
		err = fmt.Errorf("operation %q: use create, update, delete, harddelete, deactivate, void, email, merge or derive", in.Operation)
	}
	return ref, err
}

type forgeRequest struct {
	Ref
	At time.Time `json:"at"`
}

func (s *Sim) controlForge(_ *http.Request, in forgeRequest) (any, error) {
	return in.Ref, s.ForgeDelete(in.Ref, in.At)
}

type unknownRequest struct {
	Realm string `json:"realm"`
	Count int    `json:"count"`
}

func (s *Sim) controlUnknown(_ *http.Request, in unknownRequest) (any, error) {
	return in, s.SendUnknown(in.Realm, max(in.Count, 1))
}

type stepRequest struct {
	Realm string `json:"realm"`
	Count int    `json:"count"`
}

func (s *Sim) controlStep(r *http.Request, in stepRequest) (any, error) {
	refs := []Ref{}
	for range max(in.Count, 1) {
		ref, err := s.Step(in.Realm)
		if err == nil {
			err = r.Context().Err()
		}
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// stateJSON is a state whose raw JSON shows as it is.
type stateJSON struct {
	Ref
	State
	Raw json.RawMessage `json:"raw"`
}

func (s *Sim) controlTruth(r *http.Request, _ struct{}) (any, error) {
	realm := r.FormValue("realm")
	if err := s.known(realm); err != nil {
		return nil, err
	}
	states := []stateJSON{}
	for ref, state := range s.Truth(realm) {
		states = append(states, stateJSON{ref, state, state.Raw})
	}
	return states, nil
}

func (s *Sim) controlHistory(r *http.Request, _ struct{}) (any, error) {
	ref := Ref{Realm: r.FormValue("realm"), Entity: r.FormValue("entity"), ID: r.FormValue("id")}
	if err := s.known(ref.Realm); err != nil {
		return nil, err
	}
	states := []stateJSON{}
	for _, state := range s.History(ref) {
		states = append(states, stateJSON{ref, state, state.Raw})
	}
	if len(states) == 0 {
		return nil, fmt.Errorf("%s %s: %w", ref.Entity, ref.ID, ErrNotFound)
	}
	return states, nil
}

func (s *Sim) controlFaults(_ *http.Request, in Faults) (any, error) {
	s.SetFaults(in)
	return s.Faults(), nil
}

func (s *Sim) controlLoad(*http.Request, struct{}) (any, error) {
	s.BeginLoad()
	return s.now(), nil
}

func (s *Sim) controlWebhook(_ *http.Request, in struct{ URL string }) (any, error) {
	s.SetWebhookURL(in.URL)
	return in, nil
}

func (s *Sim) controlSubscriptions(_ *http.Request, in subscriptionJSON) (any, error) {
	s.SetUnselected(in.Unselected)
	return s.subscriptions(), nil
}

func (s *Sim) controlFlush(r *http.Request, _ struct{}) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), flushTimeout)
	defer cancel()
	if err := s.FlushWebhooks(ctx); err != nil {
		return nil, err
	}
	return s.Settled(), nil
}
