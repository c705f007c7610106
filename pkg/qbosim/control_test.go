package qbosim_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func (b *bundle) control(method, path, body string, into any) int {
	b.Helper()
	a := b.do(b.request(method, "/sim/"+path, body))
	if into != nil {
		require.NoError(b, json.Unmarshal(a.Body, into), "%s", a.Body)
	}
	return a.Status
}

func TestControl_ChangesRecords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Vendor", nil)
	b.create("Vendor", nil)
	tests := []struct {
		name, body string
		want       int
		operation  string
	}{
		{"create", `{"operation":"create","realm":"` + realm + `","entity":"Invoice","fields":{"PrivateNote":"by hand"}}`, 200, "Create"},
		{"update", `{"operation":"update","realm":"` + realm + `","entity":"Invoice","id":"1","fields":{"PrivateNote":"again"}}`, 200, "Update"},
		{"email", `{"operation":"email","realm":"` + realm + `","entity":"Invoice","id":"1"}`, 200, "Emailed"},
		{"void", `{"operation":"void","realm":"` + realm + `","entity":"Invoice","id":"1"}`, 200, "Void"},
		{"delete", `{"operation":"delete","realm":"` + realm + `","entity":"Invoice","id":"1"}`, 200, "Delete"},
		{"merge", `{"operation":"merge","realm":"` + realm + `","entity":"Vendor","id":"1","mergedId":"2"}`, 200, "Merge"},
		{"deactivate", `{"operation":"deactivate","realm":"` + realm + `","entity":"Vendor","id":"1"}`, 200, "Delete"},
		{"harddelete", `{"operation":"harddelete","realm":"` + realm + `","entity":"Vendor","id":"1"}`, 200, "Delete"},
		{"gone", `{"operation":"update","realm":"` + realm + `","entity":"Vendor","id":"1"}`, 404, ""},
		{"unknown realm", `{"operation":"create","realm":"1","entity":"Vendor"}`, 404, ""},
		{"unknown operation", `{"operation":"drop"}`, 400, ""},
		{"unknown field", `{"op":"create"}`, 400, ""},
		{"not supported", `{"operation":"void","realm":"` + realm + `","entity":"Bill","id":"1"}`, 404, ""},
		{"no JSON", `create`, 400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got struct {
				qbosim.Ref
				Error string
			}
			require.Equal(t, tt.want, b.control(http.MethodPost, "change", tt.body, &got))
			require.Equal(t, tt.want != 200, got.Error != "")
			if tt.want == 200 {
				require.Equal(t, tt.operation, b.Truth(realm)[got.Ref].Operation)
			}
		})
	}
}

func TestControl_ShowsTruthAndHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var refs []qbosim.Ref
	require.Equal(t, 200, b.control(http.MethodPost, "step", `{"realm":"`+realm+`","count":30}`, &refs))
	require.Len(t, refs, 30)
	require.Equal(t, 404, b.control(http.MethodPost, "step", `{"realm":"1"}`, nil))

	var truth []struct {
		qbosim.Ref
		Version   int64
		SyncToken string
		Deleted   bool
		Raw       json.RawMessage
	}
	require.Equal(t, 200, b.control(http.MethodGet, "truth?realm="+realm, "", &truth))
	want := b.Truth(realm)
	require.Len(t, truth, len(want))
	for _, got := range truth {
		state := want[got.Ref]
		require.Equal(t, state.Version, got.Version)
		require.Equal(t, state.Deleted, got.Deleted)
		require.JSONEq(t, string(state.Raw), string(got.Raw))
	}
	var history []struct{ Version int64 }
	path := "history?realm=" + realm + "&entity=" + refs[0].Entity + "&id=" + refs[0].ID
	require.Equal(t, 200, b.control(http.MethodGet, path, "", &history))
	require.Len(t, history, len(b.History(refs[0])))
	require.Equal(t, 404, b.control(http.MethodGet, "history?realm="+realm+"&entity=Bill&id=99", "", nil))
	require.Equal(t, 404, b.control(http.MethodGet, "truth?realm=1", "", nil))
}

func TestControl_SetsFaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	faults := qbosim.Faults{
		Drop: 0.1, Duplicate: 0.2, Reorder: 0.3, Delay: time.Second, Outages: []qbosim.Outage{{From: 5 * time.Second, For: 8 * time.Second}},
		HideMerged: 0.4, Error429: 0.5, Error5xx: 0.6, RetryAfter: 2 * time.Second, ReadLag: time.Minute,
		Poison: []qbosim.Ref{{Realm: realm, Entity: "Invoice", ID: "7"}}, Hidden: []qbosim.Ref{{Realm: realm, Entity: "Invoice", ID: "8"}}, Latency: time.Millisecond,
		ReplicaLag: 5 * time.Minute, WrongDeletes: 0.01, FutureDeletes: 0.02, BareDeletes: 0.03,
		Derived: 0.04, SilentDerived: 0.05, UnknownRealms: 0.06, BackwardTime: 0.07,
	}
	body, err := json.Marshal(faults)
	require.NoError(t, err)
	require.Contains(t, string(body), `"delay":"1s"`)
	require.Contains(t, string(body), `"replicaLag":"5m0s"`)
	require.Equal(t, 200, b.control(http.MethodPut, "faults", string(body), nil))
	require.Empty(t, cmp.Diff(faults, b.Faults()))
	var got qbosim.Faults
	require.Equal(t, 200, b.control(http.MethodGet, "faults", "", &got))
	require.Empty(t, cmp.Diff(faults, got))
	for _, wrong := range []string{
		`{"drop":2}`, `{"delay":"-1s"}`, `{"outages":[{"from":"1s"}]}`, `{"delay":5}`,
		`{"replicaLag":"-1s"}`, `{"wrongDeletes":2}`, `{"futureDeletes":-1}`, `{"bareDeletes":2}`, `{"derived":2}`,
		`{"silentDerived":2}`, `{"unknownRealms":2}`, `{"backwardTime":2}`,
	} {
		require.Equal(t, 400, b.control(http.MethodPut, "faults", wrong, nil), wrong)
	}
	require.Empty(t, cmp.Diff(faults, b.Faults()), "a refused setting changes nothing")
}

func TestControl_ManagesRealmsTokensAndWebhooks(t *testing.T) {
	t.Parallel()
	a := newApp(t, always)
	b := setup(t)
	var realms []string
	require.Equal(t, 200, b.control(http.MethodPost, "realms", `{"id":"`+other+`"}`, &realms))
	require.Equal(t, []string{realm, other}, realms)
	require.Equal(t, 400, b.control(http.MethodPost, "realms", `{}`, nil))
	require.Equal(t, 200, b.control(http.MethodGet, "realms", "", &realms))
	require.Equal(t, []string{realm, other}, realms)

	var consent struct{ Code, RealmID string }
	require.Equal(t, 200, b.control(http.MethodPost, "realms/"+other+"/authorize", "", &consent))
	tokens := b.exchange(consent.Code)
	require.Equal(t, 200, tokens.status)
	require.Equal(t, 404, b.control(http.MethodPost, "realms/1/authorize", "", nil))

	require.Equal(t, 200, b.control(http.MethodPost, "realms/"+other+"/expire", "", nil))
	tokens = b.refresh(tokens.RefreshToken)
	require.Equal(t, 200, tokens.status)
	require.Equal(t, 200, b.control(http.MethodPost, "realms/"+other+"/revoke", "", nil))
	require.Equal(t, "invalid_grant", b.refresh(tokens.RefreshToken).Error)

	require.Equal(t, 200, b.control(http.MethodPut, "webhook", `{"url":"`+a.server.URL+`"}`, nil))
	require.Equal(t, 200, b.control(http.MethodPost, "load", "", nil))
	b.create("Bill", nil)
	var settled bool
	require.Equal(t, 200, b.control(http.MethodGet, "settled", "", &settled))
	require.False(t, settled)
	require.Equal(t, 200, b.control(http.MethodPost, "flush", "", &settled))
	require.True(t, settled)
	require.Len(t, a.events(t), 1)
	var st qbosim.Stats
	require.Equal(t, 200, b.control(http.MethodGet, "stats", "", &st))
	require.Empty(t, cmp.Diff(b.Stats(), st))
}

// A page in the browser of a developer sends what it likes to this machine, and makes its
// own name lead here.
func TestControl_RefusesPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tc := range map[string]struct {
		host   string
		header http.Header
		want   int
	}{
		"a program":          {"127.0.0.1:8090", nil, 200},
		"localhost":          {"localhost:8090", nil, 200},
		"a service":          {"quickbooks:8090", nil, 200},
		"Kubernetes":         {"quickbooks.ledgerfeed.svc:8090", nil, 200},
		"its own page":       {"localhost:8090", http.Header{"Origin": {"http://localhost:8090"}}, 200},
		"a form":             {"127.0.0.1:8090", http.Header{"Content-Type": {"text/plain"}, "Sec-Fetch-Site": {"cross-site"}}, 403},
		"a neighbour":        {"localhost:8090", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		"an older browser":   {"127.0.0.1:8090", http.Header{"Origin": {"https://evil.example"}}, 403},
		"a sandboxed page":   {"127.0.0.1:8090", http.Header{"Origin": {"null"}}, 403},
		"a name that moved":  {"evil.example:8090", nil, 421},
		"an address in it":   {"127.0.0.1.nip.io:8090", nil, 421},
		"moved, same origin": {"evil.example:8090", http.Header{"Origin": {"http://evil.example:8090"}, "Sec-Fetch-Site": {"same-origin"}}, 421},
	} {
		t.Run(name, func(t *testing.T) {
			req := b.request(http.MethodPut, "/sim/faults", `{"refuseRevoke":true}`)
			req.Host = tc.host
			for key, values := range tc.header {
				req.Header[key] = values
			}
			b.SetFaults(qbosim.Faults{})
			require.Equal(t, tc.want, b.do(req).Status)
			require.Equal(t, tc.want == 200, b.Faults().RefuseRevoke)
		})
	}
	read := b.request(http.MethodGet, "/sim/truth?realm="+realm, "")
	read.Host = "evil.example"
	require.Equal(t, 421, b.do(read).Status)
}
