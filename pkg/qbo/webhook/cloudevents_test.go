package webhook_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

func TestParse_CloudEventsOddForms(t *testing.T) {
	want := webhook.Event{ID: "e", RealmID: "9", Entity: "CreditMemo", EntityID: "1", Operation: update, OccurredAt: utc("2026-01-02T03:04:05Z")}
	for _, tt := range []struct {
		name string
		body string
	}{
		{name: "all attributes", body: `[{"specversion":"1.0","id":"e","source":"s","type":"qbo.creditmemo.updated.v1","datacontenttype":"application/json","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9","data":{}}]`},
		{name: "only the needed", body: `[{"id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "a single object", body: `{"specversion":"1.0","id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}`},
		{name: "byte order mark", body: "\xef\xbb\xbf" + `[{"id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "numbers for strings", body: `[{"id":"e","type":"qbo.creditmemo.updated.v1","time":1767323045000,"intuitentityid":1,"intuitaccountid":9}]`},
		{name: "any case", body: `[{"ID":"e","Type":"QBO.CREDITMEMO.Updated.V1","Time":"2026-01-02T03:04:05Z","intuitEntityId":"1","intuitAccountId":"9"}]`},
		{name: "white space in values", body: `[{"id":" e ","type":" qbo. creditmemo .updated.v1 ","time":" 2026-01-02T03:04:05Z","intuitentityid":"1 ","intuitaccountid":" 9"}]`},
		{name: "no version", body: `[{"id":"e","type":"qbo.creditmemo.updated","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "later version", body: `[{"id":"e","type":"qbo.creditmemo.updated.v12","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "the same key twice", body: `[{"id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitentityid":"1","intuitaccountid":"9","intuitaccountid":9}]`},
		{name: "data is opaque", body: `[{"data":{"alternative_ids":[{"id":"djQu","namespace":"Intuit.sbseg.v4"}],"id":"x","\"}":"]}"},"id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "data of any type", body: `[{"data":"{\"id\":\"x\"}","id":"e","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9"}]`},
		{name: "unknown attributes", body: `[{"id":"e","subject":null,"traceparent":"00-1","type":"qbo.creditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"1","intuitaccountid":"9","x":[[],{}]}]`},
		{name: "escapes", body: `[{"i\u0064":"\u0065","type":"qbo\u002ecreditmemo.updated.v1","time":"2026-01-02T03:04:05Z","intuitentityid":"\u0031","intuitaccountid":"9"}]`},
		{name: "white space everywhere", body: " [ \n { \"id\" : \"e\" ,\t\"type\":\"qbo.creditmemo.updated.v1\" , \"time\" : \"2026-01-02T03:04:05Z\" , \"intuitentityid\":\"1\", \"intuitaccountid\" : 9 } ]\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, want, event(t, tt.body))
			require.Equal(t, webhook.CloudEvents, parse(t, tt.body).Format)
		})
	}
}

func TestParse_CloudEventsTypeIsTakenApart(t *testing.T) {
	for _, tt := range []struct {
		typ  string
		want webhook.Event
	}{
		{typ: "qbo.invoice.void.v1", want: webhook.Event{Entity: "Invoice", Operation: void}},
		{typ: "qbo.invoice.voided.v1", want: webhook.Event{Entity: "Invoice", Operation: void}},
		{typ: "qbo.invoice.emailed.v1", want: webhook.Event{Entity: "Invoice", Operation: email}},
		{typ: "qbo.customer.deleted.v1", want: webhook.Event{Entity: "Customer", Operation: remove}},
		{typ: "qbo.spaceship.created.v1", want: webhook.Event{Entity: "spaceship", Operation: create}},
		{typ: "qbo.Invoice.Archived.v1", want: webhook.Event{Entity: "Invoice", OperationName: "Archived"}},
		{typ: "qbo.invoice.line.created.v1", want: webhook.Event{Entity: "invoice.line", Operation: create}},
		{typ: "payroll.invoice.created.v1", want: webhook.Event{Entity: "payroll.invoice", Operation: create}},
		{typ: "qbo.invoice.v2.v1", want: webhook.Event{Entity: "Invoice", OperationName: "v2"}},
		{typ: "qbo.invoice.vanished", want: webhook.Event{Entity: "Invoice", OperationName: "vanished"}},
	} {
		t.Run(tt.typ, func(t *testing.T) {
			tt.want.ID, tt.want.RealmID, tt.want.EntityID = "e", "9", "1"
			require.Equal(t, tt.want, event(t, `[{"id":"e","type":"`+tt.typ+`","intuitentityid":"1","intuitaccountid":"9"}]`))
		})
	}
}

func TestParse_MergedID(t *testing.T) {
	for _, tt := range []struct {
		name string
		body string
		want string
	}{
		{name: "in data", body: `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9","data":{"deletedid":"27"}}]`, want: "27"},
		{name: "in data, SDK spelling", body: `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9","data":{"x":{},"deletedId":27}}]`, want: "27"},
		{name: "on top", body: `[{"type":"qbo.customer.merged.v1","deletedID":"27","intuitentityid":"1","intuitaccountid":"9"}]`, want: "27"},
		{name: "missing", body: `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9","data":{}}]`},
		{name: "not an id", body: `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9","data":{"deletedid":{"id":"27"}}}]`},
		{name: "the survivor itself", body: `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9","data":{"deletedid":"1"}}]`},
		{name: "not a merge", body: `[{"type":"qbo.customer.updated.v1","intuitentityid":"1","intuitaccountid":"9","data":{"deletedid":"27"}}]`},
		{name: "legacy, documentation", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Merge","deletedID":"27"}]}}]}`, want: "27"},
		{name: "legacy, SDKs", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Merge","deletedId":"27"}]}}]}`, want: "27"},
		{name: "legacy, in data", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Merge","data":{"DeletedId":27}}]}}]}`, want: "27"},
		{name: "legacy, empty", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Update","deletedId":""}]}}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := event(t, tt.body)
			require.Equal(t, tt.want, e.MergedID)
			require.Equal(t, "1", e.EntityID)
		})
	}
}

func TestParse_CloudEventsWithoutAUsableIDGetsAStableOne(t *testing.T) {
	body := `[{"type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9"}]`
	id := event(t, body).ID
	require.Len(t, id, 32)
	require.Equal(t, id, event(t, body).ID)
	require.NotEqual(t, id, event(t, `[{"type":"qbo.item.created.v1","intuitentityid":"2","intuitaccountid":"9"}]`).ID)
	for _, bad := range []string{`{}`, `""`, `" "`, `"a\nb"`, `1.5`} {
		require.Equal(t, id, event(t, `[{"id":`+bad+`,"type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9"}]`).ID, bad)
	}
}
