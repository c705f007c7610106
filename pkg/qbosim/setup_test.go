package qbosim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm = "9341452001"
	other = "9341452002"
)

// clock is Intuit's: it moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bundle is a simulator with one connected realm, and its API.
type bundle struct {
	*testing.T
	*qbosim.Sim
	*clock
	server *httptest.Server
	token  string
}

func setup(t *testing.T, edit ...func(*qbosim.Options)) *bundle {
	t.Helper()
	b := &bundle{T: t, clock: newClock()}
	o := qbosim.Options{
		Seed: 1, Now: b.Now, VerifierToken: "verifier", ClientID: "client", ClientSecret: "secret",
		RedirectURLs: []string{"https://app.example/callback"}, Logger: zaptest.NewLogger(t),
	}
	for _, e := range edit {
		e(&o)
	}
	b.open(o)
	return b
}

func (b *bundle) open(o qbosim.Options) {
	b.Helper()
	sim, err := qbosim.New(o)
	require.NoError(b, err)
	b.Sim = sim
	sim.AddRealm(realm)
	access, _ := sim.Connect(realm)
	b.token = access.Reveal()
	b.serve()
	b.Cleanup(b.close)
}

func (b *bundle) serve() {
	b.server = httptest.NewServer(b.Handler())
	b.Cleanup(b.server.Close)
}

func (b *bundle) close() {
	b.server.Close()
	require.NoError(b, b.Close())
}

// answer is what an HTTP call brought.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (b *bundle) do(req *http.Request) answer {
	b.Helper()
	client := b.server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	require.NoError(b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	return answer{resp.StatusCode, resp.Header, body}
}

func (b *bundle) request(method, path, body string) *http.Request {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.server.URL+path, strings.NewReader(body))
	require.NoError(b, err)
	req.Header.Set("Authorization", "Bearer "+b.token)
	req.Header.Set("Accept", "application/json")
	return req
}

func (b *bundle) get(path string) answer {
	b.Helper()
	return b.do(b.request(http.MethodGet, path, ""))
}

func (b *bundle) cdc(entities string, since time.Time) cdcAnswer {
	b.Helper()
	a := b.get(cdcPath(entities, since.UTC().Format(time.RFC3339)))
	require.Equal(b, 200, a.Status, "%s", a.Body)
	var c cdcAnswer
	require.NoError(b, json.Unmarshal(a.Body, &c))
	require.Len(b, c.CDCResponse, 1)
	return c
}

func cdcPath(entities, since string) string {
	return fmt.Sprintf("/v3/company/%s/cdc?entities=%s&changedSince=%s&minorversion=75", realm, entities, url.QueryEscape(since))
}

type cdcAnswer struct {
	CDCResponse []struct {
		QueryResponse []map[string]json.RawMessage
	}
	Time string
}

// object is what the tests read of a record.
type object struct {
	ID        string `json:"Id"`
	SyncToken string
	Status    string `json:"status"`
	Domain    string `json:"domain"`
	Active    *bool
	MetaData  struct{ CreateTime, LastUpdatedTime string }

	TotalAmt, Balance    float64
	PrivateNote          string
	EmailStatus          string
	DisplayName, TxnDate string
}

// of returns the objects of one entity, nil if the answer has none.
func (c cdcAnswer) of(t require.TestingT, name string) []object {
	for _, block := range c.CDCResponse[0].QueryResponse {
		if raw, ok := block[name]; ok {
			var objects []object
			require.NoError(t, json.Unmarshal(raw, &objects))
			return objects
		}
	}
	return nil
}

func (b *bundle) queryAnswer(statement string) answer {
	b.Helper()
	return b.get("/v3/company/" + realm + "/query?query=" + url.QueryEscape(statement))
}

// query returns the objects that the statement finds.
func (b *bundle) query(statement string) []object {
	b.Helper()
	a := b.queryAnswer(statement)
	require.Equal(b, 200, a.Status, "%s: %s", statement, a.Body)
	var got struct{ QueryResponse map[string]json.RawMessage }
	require.NoError(b, json.Unmarshal(a.Body, &got))
	for name, raw := range got.QueryResponse {
		var objects []object
		if name != "startPosition" && name != "maxResults" && name != "totalCount" {
			require.NoError(b, json.Unmarshal(raw, &objects))
			return objects
		}
	}
	return nil
}

func (b *bundle) create(name string, fields map[string]any) qbosim.Ref {
	b.Helper()
	ref, err := b.Create(realm, name, fields)
	require.NoError(b, err)
	return ref
}

func ids(objects []object) []string {
	var all []string
	for _, o := range objects {
		all = append(all, o.ID)
	}
	return all
}

// oneFault is a fault of any shape: Intuit has three.
type oneFault struct {
	Code, Message, Detail string
}

// fault reads the fault out of an answer.
func (a answer) fault(t require.TestingT) oneFault {
	if strings.Contains(a.Header.Get("Content-Type"), "xml") {
		return xmlFault(t, a.Body)
	}
	// encoding/json matches names in any case: one struct reads both shapes.
	var got struct {
		Fault struct {
			Error []struct{ Code, Message, Detail string }
			Type  string
		}
		Time any
	}
	require.NoError(t, json.Unmarshal(a.Body, &got), "%s", a.Body)
	require.Len(t, got.Fault.Error, 1, "%s", a.Body)
	require.NotEmpty(t, got.Fault.Type)
	require.NotNil(t, got.Time)
	return oneFault(got.Fault.Error[0])
}

// served is a simulator without a server: each call goes into the handler.
func served(t testing.TB) (do func(method, path, token, body string) int, token string) {
	t.Helper()
	sim, err := qbosim.New(qbosim.Options{Seed: 1, Limits: qbosim.Limits{PerMinute: 1 << 30}})
	require.NoError(t, err)
	sim.AddRealm(realm)
	for range 50 {
		_, err := sim.Step(realm)
		require.NoError(t, err)
	}
	access, _ := sim.Connect(realm)
	return func(method, path, token, body string) int {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/text")
		w := httptest.NewRecorder()
		sim.Handler().ServeHTTP(w, req)
		return w.Code
	}, access.Reveal()
}
