package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/ledgerfeed/ledgerfeed/pkg/config"
	"github.com/ledgerfeed/ledgerfeed/pkg/lifecycle"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/action"
)

// budgetView is the page Budget.
type budgetView struct {
	Month    time.Time          `json:"month"`
	Live     int64              `json:"live"`
	Backfill int64              `json:"backfill"`
	Total    int64              `json:"total"`
	Allowed  int64              `json:"allowed"`
	Forecast int64              `json:"forecast"`
	PerDay   float64            `json:"per_day"`
	Days     []state.DayCalls   `json:"days"`
	Busiest  []state.RealmCalls `json:"busiest_today"`
	Most     int64              `json:"-"`
	// Companies are the names of the companies by realm.
	Companies map[string]string `json:"companies,omitempty"`
}

const busiestShown = 20

func (s *Server) budget(c echo.Context) (any, error) {
	ctx, now := c.Request().Context(), s.o.Now().UTC()
	u, err := s.o.Budget.Usage(ctx)
	if err != nil {
		return nil, err
	}
	v := budgetView{Month: u.Month, Live: u.Live, Backfill: u.Backfill, Total: u.Total(), Allowed: u.Budget, Forecast: u.Forecast, PerDay: u.PerDay}
	if v.Days, err = s.o.State.Calls(ctx, now); err != nil {
		return nil, err
	}
	for _, d := range v.Days {
		v.Most = max(v.Most, d.Live+d.Backfill)
	}
	if v.Busiest, err = s.o.State.Busiest(ctx, now, busiestShown); err != nil {
		return nil, err
	}
	v.Companies, err = companies(ctx, s, v.Busiest, func(r state.RealmCalls) string { return r.RealmID })
	return v, err
}

// auditView is the page Audit.
type auditView struct {
	Realm   string        `json:"realm"`
	Company string        `json:"company,omitempty"`
	Audits  []state.Audit `json:"audits"`
}

func (s *Server) audit(c echo.Context) (any, error) {
	v := auditView{Realm: c.QueryParam("realm"), Audits: []state.Audit{}}
	if v.Realm == "" {
		return v, nil
	}
	var err error
	if v.Company, err = s.companyOf(c.Request().Context(), v.Realm); err != nil {
		return v, err
	}
	v.Audits, err = s.o.State.Audits(c.Request().Context(), v.Realm)
	return v, err
}

// actionsView is the page Actions.
type actionsView struct {
	Skip    int             `json:"-"`
	Next    int             `json:"next,omitempty"`
	Actions []action.Stored `json:"actions"`
}

const actionsShown = 100

func (s *Server) actions(c echo.Context) (any, error) {
	skip, _ := strconv.Atoi(c.QueryParam("skip")) // what is no number begins at the first
	v := actionsView{Skip: max(0, skip), Actions: []action.Stored{}}
	entries, err := action.Newest(c.Request().Context(), s.o.Stream, s.o.State, v.Skip, actionsShown)
	v.Actions = append(v.Actions, entries...)
	if len(v.Actions) == actionsShown {
		v.Next = v.Skip + actionsShown
	}
	return v, err
}

// settingsView is the page Settings.
type settingsView struct {
	Version  string            `json:"version"`
	Profile  stream.Profile    `json:"profile"`
	Problems []string          `json:"durability_problems"`
	Servers  []stream.Server   `json:"servers"`
	Replicas int               `json:"replicas"`
	Streams  []stream.Usage    `json:"streams"`
	NATS     string            `json:"nats"`
	Redis    string            `json:"redis"`
	Keys     []string          `json:"token_keys"`
	Settings map[string]string `json:"settings"`
	Fields   []config.Field    `json:"-"`
}

func (s *Server) settings(c echo.Context) (any, error) {
	ctx := c.Request().Context()
	d, err := s.o.Stream.Durability(ctx)
	if err != nil {
		return nil, err
	}
	v := settingsView{
		Version: lifecycle.Version(), Profile: s.o.Stream.Profile(), Problems: d.Problems, Servers: d.Servers, Replicas: d.Replicas,
		NATS: s.o.Stream.Address(), Redis: s.o.State.Address(), Keys: s.o.Connections.Keys(), Settings: map[string]string{},
	}
	for _, f := range s.o.Settings {
		if f.Type == "secret" {
			f.Default = "[REDACTED]"
		}
		v.Fields = append(v.Fields, f)
		v.Settings[f.Key] = f.Default
	}
	v.Streams, err = s.o.Stream.Usage(ctx)
	return v, err
}

// connectingView is the page to connect a company from.
type connectingView struct{ On bool }

func (s *Server) connecting(echo.Context) (any, error) {
	return connectingView{s.o.Connect != nil}, nil
}

// testView is the page Send a test webhook.
type testView struct {
	On    bool
	URL   string
	Kinds []string
}

func (s *Server) testForm(echo.Context) (any, error) {
	v := testView{On: s.o.Config.IngressURL != "", URL: s.o.Config.IngressURL}
	for _, info := range entity.All() {
		if len(info.Operations) > 0 {
			v.Kinds = append(v.Kinds, info.Name)
		}
	}
	return v, nil
}

const sendTime = 10 * time.Second

var (
	digits   = regexp.MustCompile(`^[0-9]{1,32}$`)
	plainID  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	testOps  = map[string]string{"create": "created", "update": "updated", "delete": "deleted"}
	lowerAZ  = regexp.MustCompile(`^[A-Za-z]{1,40}$`)
	maxReply = int64(4 << 10)
)

// send posts a webhook of one event, signed as Intuit signs.
func (s *Server) send(c echo.Context) (result, error) {
	realm, name, id, op := c.FormValue("realm"), c.FormValue("entity"), c.FormValue("id"), c.FormValue("operation")
	r := result{On: "realm " + realm, Back: "/test"}
	switch {
	case s.o.Config.IngressURL == "":
		return r, problem(http.StatusConflict, "Not set up", "Set console.ingress_url and console.verifier_token.")
	case !digits.MatchString(realm):
		return r, problem(http.StatusBadRequest, "No such company", "Give the company id, digits only, as Intuit's redirect names it (realmId).")
	case !lowerAZ.MatchString(name) || !plainID.MatchString(id) || testOps[op] == "":
		return r, problem(http.StatusBadRequest, "No such event", "Give a kind of record such as Invoice, its id, and one of create, update and delete.")
	}
	status, took, err := s.post(c.Request().Context(), testBody(realm, name, id, op, s.o.Now()))
	if err != nil {
		return r, problem(http.StatusBadGateway, "No answer", "The ingress at "+s.o.Config.IngressURL+" does not answer. Look whether it runs, and whether the address is right.").SetInternal(err)
	}
	r.Data = map[string]any{"status": status, "took_ms": took.Milliseconds()}
	r.Message = fmt.Sprintf("The ingress answered %d in %s. ", status, took.Round(time.Millisecond))
	switch status {
	case http.StatusOK:
		r.Message += "The event is on its way; where the record does not exist, it ends as a dead letter."
	case http.StatusUnauthorized:
		r.Message += "The signature does not fit: console.verifier_token is not one of ingress.apps."
	default:
		r.Message += "Intuit would send it again later. The log of the ingress says why."
	}
	return r, nil
}

func testBody(realm, name, id, op string, now time.Time) []byte {
	body, _ := json.Marshal([]map[string]any{{ // strings always encode
		"specversion": "1.0", "id": "test-" + rand.Text(), "source": "ledgerfeed.console",
		"type":            "qbo." + strings.ToLower(name) + "." + testOps[op] + ".v1",
		"datacontenttype": "application/json", "time": now.UTC().Format(time.RFC3339Nano),
		"intuitentityid": id, "intuitaccountid": realm, "data": map[string]any{},
	}})
	return body
}

func (s *Server) post(ctx context.Context, body []byte) (status int, took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.Config.IngressURL, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(body, s.o.Config.VerifierKey))
	client := &http.Client{
		Timeout:       sendTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
	return resp.StatusCode, time.Since(began), err
}
