package access_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestMain(m *testing.M) { os.Exit(devtest.Main(m)) }

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// Recorded answers; see pkg/qbo's table for the sources.
const (
	lostRights   = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2015-05-11T07:18:31.346-07:00"><Fault type="AuthorizationFault"><Error code="120"><Message>Authorization Failure</Message><Detail>AuthorizationFailure: -11014-You do not have access to use QuickBooks Online Plus. , statusCode: 401</Detail></Error></Fault></IntuitResponse>`
	notForApp    = `{"fault":{"error":[{"message":"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403","detail":null,"code":"3100","element":null}],"type":"SERVICE"}}`
	noMoney      = `{"Fault":{"Error":[{"Message":"Invalid Company Status","Detail":"Subscription period has ended or cancelled or there was a billing problem","code":"6190"}],"type":"ValidationFault"}}`
	notInEdition = `{"Fault":{"Error":[{"Message":"Permission Denied Error","Detail":"Permission Denied Error : You issued a request against a feature for which your product is not entitled.","code":"5020"}],"type":"ValidationFault"}}`
)

// answer is what Intuit answers; the zero value is a success.
type answer struct {
	status int
	body   string
}

// intuit is an API of one record a kind.
type intuit struct {
	mu       sync.Mutex
	whole    map[string]answer // to every call about a realm
	entities map[string]answer // to calls about an entity
	calls    map[string]int    // by realm
}

func (i *intuit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	parts := strings.Split(r.URL.Path, "/") // "", v3, company, realm, …
	realm, query := parts[3], r.URL.Query().Get("query")
	i.calls[realm]++
	a := i.whole[realm]
	for entity, other := range i.entities {
		if strings.Contains(strings.ToLower(r.URL.Path+" "+query), strings.ToLower(entity)) {
			a = other
		}
	}
	w.Header().Set("intuit_tid", "1-"+realm)
	switch {
	case a.status != 0:
		if strings.HasPrefix(a.body, "<") {
			w.Header().Set("Content-Type", "application/xml")
		}
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
	case query != "":
		fmt.Fprint(w, `{"QueryResponse":{"totalCount":3}}`)
	default:
		fmt.Fprint(w, `{"CompanyInfo":{"Id":"1","SyncToken":"0","CompanyName":"Acme","MetaData":{"CreateTime":"2026-01-01T00:00:00Z","LastUpdatedTime":"2026-01-01T00:00:00Z"}}}`)
	}
}

func (i *intuit) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *intuit) refuse(a answer, realms ...string) {
	i.set(func() {
		for _, realm := range realms {
			i.whole[realm] = a
		}
	})
}

func (i *intuit) count(realms ...string) (n int) {
	i.set(func() {
		for _, realm := range realms {
			n += i.calls[realm]
		}
	})
	return n
}

type bundle struct {
	testing.TB
	*intuit
	store       *state.Store
	connections *connection.Store
	client      *qbo.Client
	guard       *access.Guard
	logs        *observer.ObservedLogs
	now         time.Time
}

func setup(t testing.TB, realms ...string) *bundle {
	t.Helper()
	b := &bundle{TB: t, now: noon, intuit: &intuit{whole: map[string]answer{}, entities: map[string]answer{}, calls: map[string]int{}}}
	server := httptest.NewServer(b.intuit)
	t.Cleanup(server.Close)
	clock := func() time.Time { return b.now }
	var err error
	b.store, err = state.Open(t.Context(), state.Options{Config: state.Config{URL: secret.String(devtest.RealRedis(t))}, Now: clock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.store.Close()) })
	oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "c", ClientSecret: "s", TokenURL: server.URL})
	require.NoError(t, err)
	key := secret.String("k1:" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	b.connections, err = connection.New(connection.Options{
		State: b.store, Config: connection.Config{Keys: []secret.String{key}}, Refresher: oauth, Now: clock,
	})
	require.NoError(t, err)
	b.client, err = qbo.New(qbo.Options{BaseURL: server.URL, Tokens: b.connections})
	require.NoError(t, err)
	b.guard = b.replica()
	for _, realm := range realms {
		require.NoError(t, b.connections.Connect(t.Context(), realm, "books", qbo.Token{
			Access: "access-token", Refresh: "refresh-token", AccessExpires: noon.AddDate(0, 1, 0), RefreshExpires: noon.AddDate(0, 3, 0),
		}))
	}
	return b
}

// replica is a guard of another process, but for the connections.
func (b *bundle) replica() *access.Guard {
	core, logs := observer.New(zapcore.InfoLevel)
	b.logs = logs
	return access.New(access.Options{
		State: b.store, Connections: b.connections, QBO: b.client, Logger: zap.New(core), Now: func() time.Time { return b.now },
	})
}

// call is what a service does: it asks, calls, and says what was refused.
func (b *bundle) call(g *access.Guard, realm, entity string) error {
	b.Helper()
	if err := g.Admit(b.Context(), realm); err != nil {
		return err
	}
	_, err := b.client.Query(b.Context(), realm, "SELECT * FROM "+entity)
	if err == nil {
		return nil
	}
	if wait := g.Refused(b.Context(), realm, entity, err); wait != nil {
		return wait
	}
	return err
}

func (b *bundle) state(realm string) connection.Connection {
	b.Helper()
	c, err := b.connections.Get(b.Context(), realm)
	require.NoError(b, err)
	return c
}

// run calls once a minute.
func (b *bundle) run(d time.Duration, realms ...string) {
	b.Helper()
	for range int(d / time.Minute) {
		for _, realm := range realms {
			_ = b.call(b.guard, realm, "Invoice") // what it comes to is looked at later
		}
		b.now = b.now.Add(time.Minute)
	}
}

func TestGuard_ARefusedCompanyHasAStateOfItsOwnAndComesBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer answer
		read   bool // it was read before
		want   connection.State
		words  string
	}{
		{"person lost the right", answer{401, lostRights}, true, connection.NoAccess, "You do not have access"},
		{"subscription ended", answer{400, noMoney}, true, connection.SubscriptionEnded, "Invalid Company Status"},
		{"inside a 200", answer{200, noMoney}, true, connection.SubscriptionEnded, "Invalid Company Status"},
		{"never read", answer{403, notForApp}, false, connection.WrongEnvironment, "3100"},
		{"read until now", answer{403, notForApp}, true, connection.SubscriptionEnded, "3100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "1", "2")
			if tt.read {
				require.NoError(t, b.store.AdvanceCursors(t.Context(), "1", map[string]time.Time{"Invoice": noon.Add(-time.Hour)}))
			}
			require.NoError(t, b.call(b.guard, "1", "Invoice"))
			b.refuse(tt.answer, "1")
			var waits *access.WaitError
			require.ErrorAs(t, b.call(b.guard, "1", "Invoice"), &waits)
			require.Equal(t, connection.Live, b.state("1").State, "one answer is not enough")
			began := b.now
			b.run(10*time.Minute, "1")
			c := b.state("1")
			require.Equal(t, tt.want, c.State)
			require.Contains(t, c.Reason, tt.words)
			require.Contains(t, c.Reason, "intuit_tid 1-1")
			require.Contains(t, c.Reason, tt.want.Remedy())
			require.Equal(t, began, c.LapsedAt, "since when")
			require.GreaterOrEqual(t, c.ChangedAt.Sub(began), 4*time.Minute, "spread over minutes")
			require.ErrorIs(t, b.guard.Admit(t.Context(), "1"), connection.ErrRefused)
			require.Equal(t, 1, b.logs.FilterMessage("company is refused; its events and cursors wait").Len())
			require.Equal(t, connection.Live, b.state("2").State)

			require.NoError(t, b.store.Done(t.Context(), "1", 24*time.Hour))
			b.refuse(answer{}, "1")
			b.run(2*time.Hour, "1")
			c = b.state("1")
			require.Equal(t, connection.Live, c.State)
			require.Empty(t, c.Reason)
			require.False(t, c.Access.Found())
			require.NoError(t, b.call(b.guard, "1", "Invoice"))
			due, err := b.store.Due(t.Context(), "1")
			require.NoError(t, err)
			require.False(t, due.IsZero() || due.After(b.now), "due for a scan")
			require.True(t, c.ChangedAt.After(began.Add(10*time.Minute)))
		})
	}
}

// Processors and reconcilers, all replicas together.
func TestGuard_OneCallAnHour(t *testing.T) {
	t.Parallel()
	b := setup(t, "1", "2")
	b.refuse(answer{403, notForApp}, "1")
	replicas := []*access.Guard{b.replica(), b.replica(), b.replica()}
	var hours []int
	for range 24 {
		before := b.count("1")
		for range 60 {
			for _, g := range replicas {
				require.ErrorIs(t, b.call(g, "1", "Invoice"), access.ErrWait)
			}
			b.now = b.now.Add(time.Minute)
		}
		hours = append(hours, b.count("1")-before)
	}
	require.LessOrEqual(t, hours[0], 4, "the first call, and three to make sure")
	for _, n := range hours[1:] {
		require.Equal(t, 1, n, "calls by hour: %v", hours)
	}
	require.LessOrEqual(t, b.count("2"), 1, "another company was asked once")
	require.Equal(t, connection.WrongEnvironment, b.state("1").State)
}

func TestGuard_OneEntityIsNotTheCompany(t *testing.T) {
	t.Parallel()
	for _, body := range []string{notForApp, notInEdition} {
		b := setup(t, "1")
		b.set(func() { b.entities["Class"] = answer{403, body} })
		for range 10 {
			err := b.call(b.guard, "1", "Class")
			require.Error(t, err)
			require.NotErrorIs(t, err, access.ErrWait, "the caller's to deal with")
			require.NoError(t, b.call(b.guard, "1", "Invoice"))
			b.now = b.now.Add(time.Minute)
		}
		require.Equal(t, connection.Live, b.state("1").State)
		require.LessOrEqual(t, b.count("1"), 22, "one probe in ten minutes")
	}
}

// What is refused for a moment is forgotten.
func TestGuard_APassingRefusalParksNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, "1")
	b.refuse(answer{403, notForApp}, "1")
	require.ErrorIs(t, b.call(b.guard, "1", "Invoice"), access.ErrWait)
	b.now = b.now.Add(time.Minute)
	b.refuse(answer{}, "1")
	b.run(5*time.Minute, "1")
	require.Equal(t, connection.Live, b.state("1").State)
	require.NoError(t, b.call(b.guard, "1", "Invoice"))
	// A probe that fails for another reason neither parks nor frees.
	b.refuse(answer{403, notForApp}, "1")
	require.NoError(t, b.connections.SetState(t.Context(), "1", connection.Live, ""))
	b.now = b.now.Add(time.Hour)
	require.ErrorIs(t, b.call(b.guard, "1", "Invoice"), access.ErrWait)
	b.refuse(answer{503, "<html></html>"}, "1")
	b.run(time.Hour, "1")
	require.Equal(t, connection.Live, b.state("1").State)
	require.ErrorIs(t, b.call(b.guard, "1", "Invoice"), access.ErrWait)
}

func TestGuard_UnparkedByAPersonAndReconnected(t *testing.T) {
	t.Parallel()
	b := setup(t, "1")
	b.refuse(answer{401, lostRights}, "1")
	b.run(10*time.Minute, "1")
	require.Equal(t, connection.NoAccess, b.state("1").State)
	b.refuse(answer{}, "1")
	require.NoError(t, b.connections.SetState(t.Context(), "1", connection.Live, ""))
	require.NoError(t, b.call(b.guard, "1", "Invoice"))

	b.now = b.now.Add(time.Hour)
	b.refuse(answer{401, lostRights}, "1")
	b.run(10*time.Minute, "1")
	require.Equal(t, connection.NoAccess, b.state("1").State)
	require.NoError(t, b.connections.Connect(t.Context(), "1", "books", qbo.Token{Access: "access-token-2", Refresh: "refresh-token-2", AccessExpires: noon.AddDate(0, 1, 0)}))
	b.refuse(answer{}, "1")
	require.NoError(t, b.call(b.guard, "1", "Invoice"))
	require.False(t, b.state("1").Access.Found())
}

func TestGuard_WhatAPersonParkedSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t, "1")
	require.NoError(t, b.connections.SetState(t.Context(), "1", connection.Parked, "invoice unpaid"))
	err := b.guard.Admit(t.Context(), "1")
	require.ErrorIs(t, err, connection.ErrParked)
	err = b.state("1").Unusable()
	require.ErrorIs(t, err, connection.ErrParked)
	require.ErrorContains(t, err, "invoice unpaid")
	require.Zero(t, b.count("1"))
}

// One of five is a company's problem, five of five the app's.
func TestGuard_OneOfFiveAndFiveOfFive(t *testing.T) {
	t.Parallel()
	five := []string{"1", "2", "3", "4", "5"}
	for refused := 1; refused <= 5; refused++ {
		t.Run(fmt.Sprint(refused), func(t *testing.T) {
			t.Parallel()
			b := setup(t, five...)
			b.refuse(answer{403, notForApp}, five[:refused]...)
			b.run(15*time.Minute, five...)
			p, err := b.store.AppProblem(t.Context(), "books")
			require.NoError(t, err)
			if refused < 5 {
				require.False(t, p.Found(), "companies that answer disprove it")
				for n, realm := range five {
					require.Equal(t, n < refused, b.state(realm).State == connection.WrongEnvironment, realm)
				}
				return
			}
			require.True(t, p.Found())
			require.Contains(t, p.Message, "3100")
			require.Equal(t, 1, b.logs.FilterMessage("app is refused; no company is parked").Len(), "one alert")
			b.run(3*time.Hour, five...)
			for _, realm := range five {
				require.Equal(t, connection.Live, b.state(realm).State, "nothing is parked")
			}
			text, remedy := access.Explain(p)
			require.Contains(t, text, "books")
			for _, what := range []string{"qbo.client_id", "qbo.client_secret", "qbo.base_url", "environment"} {
				require.Contains(t, remedy, what)
			}

			b.refuse(answer{}, five...)
			ended := b.now
			for b.now.Sub(ended) < time.Minute {
				for _, realm := range five {
					_ = b.call(b.guard, realm, "Invoice")
				}
				b.now = b.now.Add(10 * time.Second)
			}
			before := b.count(five...)
			for _, realm := range five {
				require.NoError(t, b.call(b.guard, realm, "Invoice"), "within a minute, by itself")
				require.Equal(t, connection.Live, b.state(realm).State)
			}
			require.Equal(t, 5, b.count(five...)-before)
			require.Equal(t, 1, b.logs.FilterMessage("app is answered again").Len())
		})
	}
}

// One company alone is never the app.
func TestGuard_AnAppOfOneCompany(t *testing.T) {
	t.Parallel()
	b := setup(t, "1")
	b.refuse(answer{403, notForApp}, "1")
	b.run(10*time.Minute, "1")
	require.Equal(t, connection.WrongEnvironment, b.state("1").State)
	p, err := b.store.AppProblem(t.Context(), "books")
	require.NoError(t, err)
	require.False(t, p.Found())
}

// A company that is refused already says nothing about the next one.
func TestGuard_TwoCompaniesRefusedDaysApart(t *testing.T) {
	t.Parallel()
	b := setup(t, "1", "2")
	b.refuse(answer{400, noMoney}, "1")
	b.run(10*time.Minute, "1", "2")
	b.now = b.now.AddDate(0, 0, 3)
	b.refuse(answer{400, noMoney}, "2")
	b.run(10*time.Minute, "1", "2")
	require.Equal(t, connection.SubscriptionEnded, b.state("1").State)
	require.Equal(t, connection.SubscriptionEnded, b.state("2").State)
}

// What the token endpoint refuses to the app keeps nobody from calls whose token is good.
func TestGuard_ATokenEndpointThatRefusesTheApp(t *testing.T) {
	t.Parallel()
	b := setup(t, "1", "2")
	_, err := b.store.NoteRefused(t.Context(), "books", "2", state.AppRefusal{By: state.RefusedByOAuth, Message: "invalid_client", App: true})
	require.NoError(t, err)
	require.NoError(t, b.call(b.guard, "1", "Invoice"))
	_, refused := b.connections.Token(t.Context(), "1")
	require.NoError(t, refused)
	err = b.guard.Refused(t.Context(), "1", "Invoice", &qbo.OAuthError{Status: 401, Code: "invalid_client"})
	require.ErrorIs(t, err, access.ErrWait, "its events wait")
	require.ErrorContains(t, err, "the token endpoint refuses the app")
	_, err = b.store.NoteAnswered(t.Context(), "books", state.RefusedByOAuth)
	require.NoError(t, err)
	b.now = b.now.Add(time.Minute)
	require.NoError(t, b.guard.Refused(t.Context(), "1", "Invoice", &qbo.OAuthError{Status: 401, Code: "invalid_client"}))
}

// Before a company is refused, another one that nobody has called is asked.
func TestGuard_AQuietCompanyIsAskedBeforeOneIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, "1", "2")
	b.refuse(answer{403, notForApp}, "1", "2")
	b.run(10*time.Minute, "1")
	require.Equal(t, connection.Live, b.state("1").State)
	p, err := b.store.AppProblem(t.Context(), "books")
	require.NoError(t, err)
	require.True(t, p.Found())
}
