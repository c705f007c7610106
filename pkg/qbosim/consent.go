package qbosim

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
)

const (
	decisionField = "decision"
	refusal       = "deny"
)

var (
	//go:embed consent.html
	consentHTML string
	consentPage = template.Must(template.New("consent").Parse(consentHTML))
)

// choice is a company on the page.
type choice struct {
	ID, Name  string
	Connected bool
	Chosen    bool
}

// askOwner shows the page that a person sees at Intuit. Its form comes back to the
// same address with a decision.
func (s *Sim) askOwner(w http.ResponseWriter, q url.Values) {
	data := struct {
		Client    string
		Hidden    url.Values
		Companies []choice
	}{Client: q.Get("client_id"), Hidden: url.Values{}}
	for key, values := range q {
		if key != "realmId" && key != decisionField {
			data.Hidden[key] = values
		}
	}
	chosen := s.consenting(q.Get("realmId"))
	for _, id := range s.Realms() {
		data.Companies = append(data.Companies, choice{ID: id, Name: companyName(id), Connected: s.tokens.connected(id), Chosen: id == chosen})
	}
	var page bytes.Buffer
	if err := consentPage.Execute(&page, data); err != nil {
		http.Error(w, "consent page", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(page.Bytes())
}
