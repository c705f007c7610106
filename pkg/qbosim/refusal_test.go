package qbosim_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func (b *bundle) refuse(all ...qbosim.Refusal) {
	f := b.Faults()
	f.Refuse = all
	b.SetFaults(f)
}

func read(entity, id string) string { return "/v3/company/" + realm + "/" + entity + "/" + id }

func TestRefuse_AnEntityWhereverItIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bill, invoice := b.create("Bill", nil), b.create("Invoice", nil)
	b.refuse(qbosim.Refusal{Entity: "bill", Status: 400, Code: "5020"})
	for _, tt := range []struct {
		name, path string
		want       int
	}{
		{"cdc that names it refuses the whole answer", cdcPath("Invoice,Bill", "2026-11-20"), 400},
		{"cdc of others", cdcPath("Invoice,Vendor", "2026-11-20"), 200},
		{"query", queryPath("SELECT * FROM Bill"), 400},
		{"count", queryPath("SELECT COUNT(*) FROM Bill"), 400},
		{"read", read("bill", bill.ID), 400},
		{"query of another", queryPath("SELECT * FROM Invoice"), 200},
		{"read of another", read("invoice", invoice.ID), 200},
		{"the company", read("companyinfo", realm), 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := b.get(tt.path)
			require.Equal(t, tt.want, a.Status, "%s", a.Body)
			if tt.want != 200 {
				require.Equal(t, "5020", a.fault(t).Code)
				require.Equal(t, "Permission Denied Error", a.fault(t).Message, "the recorded text of the code")
			}
		})
	}
	b.refuse()
	require.Equal(t, 200, b.get(queryPath("SELECT * FROM Bill")).Status)
	st := b.Stats()
	require.Equal(t, 4, st.Refused)
	require.Equal(t, map[string]int{realm + "/Bill/cdc": 1, realm + "/Bill/query": 2, realm + "/Bill/read": 1}, st.RefusedEntities)
	require.Zero(t, st.Throttled)
}

// A code with several texts gets that of its status, and not one that passes by itself.
func TestRefuse_TheTextFitsTheStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, tt := range []struct {
		status     int
		code, want string
	}{
		{403, "3100", "ApplicationAuthorizationFailed"}, {500, "3100", "InternalServerError"},
		{200, "5020", "Permission Denied"}, {401, "120", "Authorization Failure"}, {418, "6190", "Invalid Company Status"},
	} {
		b.refuse(qbosim.Refusal{Status: tt.status, Code: tt.code})
		require.Contains(t, b.get(read("companyinfo", realm)).fault(t).Message, tt.want)
	}
	b.refuse(qbosim.Refusal{Status: 400, Code: "6000"})
	require.NotContains(t, string(b.get(read("companyinfo", realm)).Body), "-30000")
}

func TestRefuse_AllCallsOfOneRealm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.AddRealm(other)
	access, _ := b.Connect(other)
	b.refuse(qbosim.Refusal{Realm: realm, Recorded: "forbidden-3100"})
	for _, path := range []string{cdcPath("Invoice", "2026-11-20"), queryPath("SELECT * FROM Invoice"), read("companyinfo", realm), "/v3/company/" + realm + "/preferences"} {
		a := b.get(path)
		require.Equal(t, 403, a.Status, path)
		require.Equal(t, "3100", a.fault(t).Code)
		require.Equal(t, "lower", a.shape(t))
	}
	b.token = access.Reveal()
	require.Equal(t, 200, b.get(strings.Replace(cdcPath("Invoice", "2026-11-20"), realm, other, 1)).Status)
}

func TestRefuse_LastsForATimeOfIntuitsClock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short := qbosim.Refusal{Entity: "Bill", Status: 404, For: time.Minute}
	b.refuse(short)
	b.Advance(40 * time.Second)
	b.refuse(short, qbosim.Refusal{Entity: "Vendor", Status: 404})
	require.Equal(t, 404, b.get(queryPath("SELECT * FROM Bill")).Status)
	b.Advance(20 * time.Second)
	require.Equal(t, 200, b.get(queryPath("SELECT * FROM Bill")).Status, "setting other faults does not begin it again")
	b.Advance(30 * time.Minute)
	require.Equal(t, 404, b.get(queryPath("SELECT * FROM Vendor")).Status, "until it is lifted")
	b.refuse()
	b.refuse(short)
	require.Equal(t, 404, b.get(queryPath("SELECT * FROM Bill")).Status, "lifted and set again")
}

func TestRefuse_HitsItsShareOfCalls(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) {
		o.Faults.Refuse = []qbosim.Refusal{{Recorded: "gateway-404", Share: 0.3}}
	})
	refused := 0
	for range 100 {
		if b.get(queryPath("SELECT * FROM Bill")).Status == 404 {
			refused++
		}
	}
	require.InDelta(t, 30, refused, 15)
}

func TestRefuse_OneItemOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := `{"BatchItemRequest":[{"bId":"a","Query":"SELECT * FROM Bill"},{"bId":"b","Query":"SELECT * FROM Vendor"}]}`
	send := func() answer {
		req := b.request(http.MethodPost, "/v3/company/"+realm+"/batch", body)
		req.Header.Set("Content-Type", "application/json")
		return b.do(req)
	}
	b.refuse(qbosim.Refusal{Entity: "Bill", Recorded: "feature-5030"})
	a := send()
	require.Equal(t, 200, a.Status)
	require.Equal(t, 1, strings.Count(string(a.Body), `"code":"5030"`), "%s", a.Body)
	require.Contains(t, string(a.Body), `"QueryResponse":{}`)

	b.refuse(qbosim.Refusal{Entity: "Bill", Recorded: "gateway-404"})
	require.Equal(t, 404, send().Status, "a gateway answers no item")
}

// Each recorded response comes as it was seen.
func TestRefuse_AnswersWhatWasRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := map[string]string{ // content type, and what the body holds
		"gateway-404": "text/html: 404 Not Found", "gateway-302": "text/html: Resource redirect", "gateway-400": "text/html: 400 Bad Request",
		"gateway-503": "text/html: 503", "gateway-403": "application/json: routing error", "resource-400": "application/json: Could not find resource for relative",
		"internal-6000": "application/json: (-30000)", "wait-6000": "application/json: wait a few minutes", "server-3100": "application/json: InternalServerError",
		"xml-200": "application/xml: <Fault", "cluster-130": "application/xml: Accessing Wrong Cluster", "auth-100": "application/xml: SRV-110",
		"access-120": "application/json: -11014-", "forbidden-3100": "application/json: ApplicationAuthorizationFailed", "ended-6190": "application/json: Subscription period",
		"feature-5020": "application/json: not entitled", "feature-5030": "application/json: Not Supported", "business-6000": "application/json: turn on this feature",
		"bare-400": "text/plain: ", "fault-200": "application/json: 5020", "system-500": "application/json: 10000", "unqueryable-4001": "application/json: not queryable",
	}
	all := qbosim.RecordedResponses()
	require.Len(t, all, len(want))
	for _, r := range all {
		t.Run(r.Name, func(t *testing.T) {
			b.refuse(qbosim.Refusal{Recorded: r.Name})
			a := b.get(queryPath("SELECT * FROM Bill"))
			kind, holds, _ := strings.Cut(want[r.Name], ": ")
			require.Equal(t, r.Status, a.Status)
			require.Contains(t, a.Header.Get("Content-Type"), kind)
			require.Contains(t, string(a.Body), holds)
			require.NotEmpty(t, a.Header.Get("Intuit_tid"))
			require.NotEmpty(t, r.Source)
			if r.Code != "" {
				require.Equal(t, r.Code, a.fault(t).Code)
			}
			if r.Status == 302 {
				require.NotEmpty(t, a.Header.Get("Location"))
			}
		})
	}
}

// A token that was issued a moment ago, and is good, is answered 401; the token stays good.
func TestRefuse_AFreshTokenIsAnswered401(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"auth-100", "cluster-130"} {
		b := setup(t)
		b.refuse(qbosim.Refusal{Recorded: name, For: time.Minute})
		a := b.get(queryPath("SELECT * FROM Bill"))
		require.Equal(t, 401, a.Status)
		require.Contains(t, a.Header.Get("WWW-Authenticate"), "invalid_token")
		b.Advance(time.Minute)
		require.Equal(t, 200, b.get(queryPath("SELECT * FROM Bill")).Status)
	}
}

func TestRefuseRefresh_LeavesTheTokenGood(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]qbosim.TokenRefusal{
		"wrong keys":  {Description: qbosim.WrongClient, For: time.Minute},
		"an incident": {Realm: realm, For: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.AddRealm(other)
			got := b.exchange(b.Authorize(realm))
			f := b.Faults()
			f.RefuseRefresh = []qbosim.TokenRefusal{refusal}
			b.SetFaults(f)
			for range 3 {
				a := b.refresh(got.RefreshToken)
				require.Equal(t, "invalid_grant", a.Error)
			}
			_, refresh := b.Connect(other)
			require.Equal(t, refusal.Realm == "", b.refresh(refresh.Reveal()).Error != "", "of one realm, or of all")
			b.Advance(time.Minute)
			require.NotEmpty(t, b.refresh(got.RefreshToken).AccessToken, "it was not used up")
			st := b.Stats()
			require.GreaterOrEqual(t, st.RefreshesRefused, 3)
			require.Zero(t, st.RefreshReplays)
		})
	}
}

// The keys of another app are good ones: what they may not do is to refresh this app's
// token.
func TestBearer_AnotherAppsKeysDoNotUseTheTokenUp(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) {
		o.OtherClients = []qbosim.Client{{ID: "sandbox", Secret: secret.String("sandbox-secret")}}
	})
	got := b.exchange(b.Authorize(realm))
	as := func(id, password string, form url.Values) (int, string) {
		req := b.request(http.MethodPost, "/oauth2/v1/tokens/bearer", form.Encode())
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+password)))
		a := b.do(req)
		return a.Status, string(a.Body)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}}
	status, body := as("sandbox", "sandbox-secret", refresh)
	require.Equal(t, 400, status)
	require.Contains(t, body, qbosim.WrongClient)
	require.Contains(t, body, "invalid_grant")
	status, body = as("sandbox", "wrong", refresh)
	require.Equal(t, 401, status)
	require.Contains(t, body, "invalid_client")
	_, body = as("sandbox", "sandbox-secret", url.Values{"grant_type": {"authorization_code"}, "code": {b.Authorize(realm)}})
	require.Contains(t, body, "invalid_grant")
	require.NotEmpty(t, b.refresh(got.RefreshToken).AccessToken)
	require.Equal(t, 1, b.Stats().RefreshesRefused)
}

// Intuit answers 400 for three causes alike, and for a request that it does not like.
func TestRevoke_400HasManyCauses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	revoke := func(body string) answer {
		req := b.request(http.MethodPost, "/v2/oauth2/tokens/revoke", body)
		req.SetBasicAuth("client", "secret")
		return b.do(req)
	}
	token := func(text string) string {
		body, err := json.Marshal(map[string]string{"token": text})
		require.NoError(t, err)
		return string(body)
	}
	old := b.exchange(b.Authorize(realm))
	got := b.refresh(old.RefreshToken)
	var bodies []string
	for cause, body := range map[string]string{"malformed": "token=x", "unknown": token("made up"), "replaced": token(old.RefreshToken)} {
		a := revoke(body)
		require.Equal(t, 400, a.Status, cause)
		bodies = append(bodies, string(a.Body))
		require.Equal(t, 200, b.statusWith(got.AccessToken), cause)
	}
	f := b.Faults()
	f.RefuseRevoke = true
	b.SetFaults(f)
	require.Equal(t, 400, revoke(token(got.RefreshToken)).Status)
	require.Equal(t, 200, b.statusWith(got.AccessToken), "the grant is still there")
	f.RefuseRevoke = false
	b.SetFaults(f)
	require.Equal(t, 200, revoke(token(got.AccessToken)).Status)
	a := revoke(token(got.RefreshToken))
	require.Equal(t, 400, a.Status, "revoked already")
	for _, body := range bodies {
		require.Equal(t, string(a.Body), body)
	}
}

func TestRead_PreferencesHaveNoID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v3/company/" + realm + "/preferences"
	require.Equal(t, "610", b.get(path).fault(t).Code)
	b.create("Preferences", map[string]any{"EmailMessagesPrefs": map[string]any{}})
	a := b.get(path)
	require.Equal(t, 200, a.Status)
	require.Contains(t, string(a.Body), `"Preferences":{`)
	require.Contains(t, string(a.Body), `"EmailMessagesPrefs"`)
	_, err := b.Create(realm, "Preferences", nil)
	require.ErrorIs(t, err, qbosim.ErrNotSupported, "a company has one")
	b.refuse(qbosim.Refusal{Entity: "Preferences", Recorded: "feature-5020"})
	require.Equal(t, 400, b.get(path).Status)
}

func TestUnfilterable_RefusesTheFilterNotTheEntity(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *qbosim.Options) { o.Faults.Unfilterable = []string{"preferences"} })
	b.create("Preferences", nil)
	for statement, want := range map[string]int{
		"SELECT * FROM Preferences":                200,
		"SELECT COUNT(*) FROM Preferences":         200,
		"SELECT * FROM Preferences WHERE Id = '1'": 400,
		"SELECT * FROM Preferences WHERE MetaData.LastUpdatedTime >= '2026-11-01' MAXRESULTS 10":                400,
		"SELECT * FROM Preferences ORDERBY MetaData.LastUpdatedTime":                                            400,
		"SELECT * FROM Invoice WHERE MetaData.LastUpdatedTime >= '2026-11-01' ORDERBY MetaData.LastUpdatedTime": 200,
	} {
		a := b.get(queryPath(statement))
		require.Equal(t, want, a.Status, "%s: %s", statement, a.Body)
		if want != 200 {
			require.Equal(t, "4001", a.fault(t).Code)
			require.Regexp(t, "is not (queryable|sortable)", a.fault(t).Detail)
		}
	}
}

func TestQuery_HidesInactiveBudgetsUnlessAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.create("Budget", nil), b.create("Budget", nil)
	since := b.Now()
	b.Advance(time.Second)
	require.NoError(t, b.Deactivate(one))
	require.Equal(t, []string{two.ID}, ids(b.query("SELECT * FROM Budget")))
	require.Equal(t, []string{one.ID, two.ID}, ids(b.query("SELECT * FROM Budget WHERE Active IN (true, false)")))
	require.Equal(t, []string{one.ID}, ids(b.query("SELECT * FROM Budget WHERE Active = false")))
	changed := b.cdc("Budget", since).of(t, "Budget")
	require.Len(t, changed, 2)
	require.NoError(t, b.Update(one, map[string]any{"Active": true}))
	require.Equal(t, []string{one.ID, two.ID}, ids(b.query("SELECT * FROM Budget")))
}

func TestRefuse_RefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"refuse":[{"entity":"Spaceship","status":400}]}`: "unknown entity",
		`{"refuse":[{"entity":"Bill"}]}`:                   "status 0",
		`{"refuse":[{"recorded":"nonsense"}]}`:             "gateway-404",
		`{"refuse":[{"status":400,"for":"-1s"}]}`:          "positive duration",
		`{"refuse":[{"status":400,"share":2}]}`:            "share",
		`{"refuseRefresh":[{"for":"-1s"}]}`:                "positive duration",
		`{"unfilterable":["Spaceship"]}`:                   "unknown entity",
	} {
		var f qbosim.Faults
		require.ErrorContains(t, json.Unmarshal([]byte(body), &f), want)
	}
	_, err := qbosim.New(qbosim.Options{Faults: qbosim.Faults{Refuse: []qbosim.Refusal{{Entity: "Spaceship", Status: 400}}}})
	require.ErrorIs(t, err, qbosim.ErrUnknownEntity)
}

func TestControl_RefusesAndSelects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var f qbosim.Faults
	const refusals = `{"refuse":[{"entity":"Bill","recorded":"feature-5020","for":"1m0s"}],"refuseRefresh":[{"description":"x","for":"30s"}],"refuseRevoke":true,"unfilterable":["Preferences"]}`
	require.Equal(t, 200, b.control("PUT", "faults", refusals, &f))
	require.Equal(t, []qbosim.Refusal{{Entity: "Bill", Recorded: "feature-5020", For: time.Minute}}, f.Refuse)
	require.Equal(t, []qbosim.TokenRefusal{{Description: "x", For: 30 * time.Second}}, f.RefuseRefresh)
	require.True(t, f.RefuseRevoke)
	require.Equal(t, []string{"Preferences"}, f.Unfilterable)
	require.Equal(t, 400, b.get(queryPath("SELECT * FROM Bill")).Status)
	var known []qbosim.RecordedResponse
	require.Equal(t, 200, b.control("GET", "recorded", "", &known))
	require.NotEmpty(t, known)

	var s struct{ Unselected []string }
	require.Equal(t, 200, b.control("GET", "subscriptions", "", &s))
	require.Empty(t, s.Unselected)
	require.Equal(t, 200, b.control("PUT", "subscriptions", `{"unselected":["invoice.update","Customer.Merged@10s"]}`, &s))
	require.Equal(t, []string{"invoice.update", "customer.merge@10s"}, s.Unselected)
	require.Equal(t, 400, b.control("PUT", "subscriptions", `{"unselected":["invoice.merge"]}`, nil))
}
