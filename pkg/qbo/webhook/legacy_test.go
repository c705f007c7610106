package webhook_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
)

func TestParse_LegacyOddForms(t *testing.T) {
	want := webhook.Event{RealmID: "9", Entity: "CreditMemo", EntityID: "1", Operation: void, OccurredAt: utc("2026-01-02T03:04:05Z")}
	for _, tt := range []struct {
		name string
		body string
	}{
		{name: "documented", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"CreditMemo","id":"1","operation":"Void","lastUpdated":"2026-01-02T03:04:05Z"}]}}]}`},
		{name: "any case", body: `{"EventNotifications":[{"RealmID":"9","datachangeevent":{"ENTITIES":[{"Name":"creditmemo","ID":"1","OPERATION":"void","LastUpdated":"2026-01-02T03:04:05Z"}]}}]}`},
		{name: "voided", body: `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"CreditMemo","id":"1","operation":"Voided","lastUpdated":"2026-01-02T03:04:05Z"}]}}]}`},
		{name: "numbers", body: `{"eventNotifications":[{"realmId":9,"dataChangeEvent":{"entities":[{"name":"CreditMemo","id":1,"operation":"Void","lastUpdated":1767323045000}]}}]}`},
		{name: "realm last", body: `{"eventNotifications":[{"dataChangeEvent":{"entities":[{"lastUpdated":"2026-01-02T03:04:05Z","operation":"Void","id":"1","name":"CreditMemo"}]},"realmId":"9"}]}`},
		{name: "objects for arrays", body: `{"eventNotifications":{"realmId":"9","dataChangeEvent":{"entities":{"name":"CreditMemo","id":"1","operation":"Void","lastUpdated":"2026-01-02T03:04:05Z"}}}}`},
		{name: "byte order mark", body: "\xef\xbb\xbf" + `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"CreditMemo","id":"1","operation":"Void","lastUpdated":"2026-01-02T03:04:05Z"}]}}]}`},
		{name: "inside an array", body: `[{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"CreditMemo","id":"1","operation":"Void","lastUpdated":"2026-01-02T03:04:05Z"}]}}]}]`},
		{name: "unknown fields", body: `{"v":2,"eventNotifications":[{"x":[],"realmId":"9","dataChangeEvent":{"y":null,"entities":[{"name":"CreditMemo","z":{},"id":"1","operation":"Void","lastUpdated":"2026-01-02T03:04:05Z"}]}}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Empty(t, cmp.Diff(want, event(t, tt.body), cmpopts.IgnoreFields(webhook.Event{}, "ID")))
			require.Equal(t, webhook.Legacy, parse(t, tt.body).Format)
		})
	}
}

func TestParse_LegacyRepeatedKeysLoseNoEvents(t *testing.T) {
	n := parse(t, `{
		"eventNotifications":[{"realmId":"9",
			"dataChangeEvent":{"entities":[{"name":"Item","id":"1","operation":"Create"}],"entities":[{"name":"Item","id":"2","operation":"Create"}]},
			"dataChangeEvent":{"entities":[{"name":"Item","id":"3","operation":"Create"}]}}],
		"EVENTNOTIFICATIONS":[{"realmId":"8","dataChangeEvent":{"entities":[{"name":"Item","id":"4","operation":"Create"}]}}]}`)
	require.Empty(t, n.Rejected)
	var ids []string
	for _, e := range n.Events {
		ids = append(ids, e.RealmID+"/"+e.EntityID)
	}
	require.Equal(t, []string{"9/1", "9/2", "9/3", "8/4"}, ids)
}

func TestParse_LegacyBadItemsAreRejectedAndTheOthersPass(t *testing.T) {
	for _, tt := range []struct {
		name string
		body string
		want webhook.Rejected
	}{
		{name: "entity is a string", body: `{"realmId":"9","dataChangeEvent":{"entities":["x"]}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`"x"`), Reason: "the entity is not an object"}},
		{name: "no id", body: `{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Item"}]}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"name":"Item"}`), Reason: "entity id is missing"}},
		{name: "no name", body: `{"realmId":"9","dataChangeEvent":{"entities":[{"id":"1"}]}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"id":"1"}`), Reason: "entity name is missing"}},
		{name: "operation is an object", body: `{"realmId":"9","dataChangeEvent":{"entities":[{"id":"1","name":"Item","operation":{}}]}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"id":"1","name":"Item","operation":{}}`), Reason: "operation is neither a string nor an integer"}},
		{name: "two operations", body: `{"realmId":"9","dataChangeEvent":{"entities":[{"id":"1","name":"Item","operation":"Create","Operation":"Delete"}]}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"id":"1","name":"Item","operation":"Create","Operation":"Delete"}`), Reason: "operation is given twice with different values"}},
		{name: "no realm", body: `{"dataChangeEvent":{"entities":[{"id":"1","name":"Item"}]}}`, want: webhook.Rejected{Raw: []byte(`{"dataChangeEvent":{"entities":[{"id":"1","name":"Item"}]}}`), Reason: "realm id is missing"}},
		{name: "no entities", body: `{"realmId":"9","dataChangeEvent":{}}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"realmId":"9","dataChangeEvent":{}}`), Reason: "the notification has no entities"}},
		{name: "no change", body: `{"realmId":"9"}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`{"realmId":"9"}`), Reason: "the notification has no entities"}},
		{name: "one change of two is empty", body: `{"realmId":"9","dataChangeEvent":[{"entities":[]},7]}`, want: webhook.Rejected{RealmID: "9", Raw: []byte(`7`), Reason: "the dataChangeEvent has no entities"}},
		{name: "not an object", body: `[1]`, want: webhook.Rejected{Raw: []byte(`[1]`), Reason: "the notification is not an object"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const good = `{"realmId":"7","dataChangeEvent":{"entities":[{"name":"Item","id":"1","operation":"Create"}]}}`
			n := parse(t, `{"eventNotifications":[`+good+`,`+tt.body+`,`+good+`]}`)
			require.Len(t, n.Events, 2)
			require.Empty(t, cmp.Diff([]webhook.Rejected{tt.want}, n.Rejected))
		})
	}
}

func TestParse_LegacyEventWithoutOperationOrTimeIsStillAnEvent(t *testing.T) {
	e := event(t, `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Item","id":"1"}]}}]}`)
	require.Zero(t, e.Operation)
	require.Empty(t, e.OperationName)
	require.True(t, e.OccurredAt.IsZero())
	e = event(t, `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Hologram","id":"1","operation":"Teleport"}]}}]}`)
	require.Zero(t, e.Operation)
	require.Equal(t, "Teleport", e.OperationName)
	require.Equal(t, "Hologram", e.Entity)
}

func TestParse_LegacyIDNamesTheContent(t *testing.T) {
	body := func(realm, name, id, operation, at, merged string) string {
		return `{"eventNotifications":[{"realmId":"` + realm + `","dataChangeEvent":{"entities":[{"name":"` + name + `","id":"` + id +
			`","operation":"` + operation + `","lastUpdated":"` + at + `","deletedId":"` + merged + `"}]}}]}`
	}
	base := event(t, body("9", "Customer", "1", "Merge", "2026-01-02T03:04:05Z", "27")).ID
	same := event(t, body("9", "customer", "1", "merged", "2026-01-02T04:04:05+0100", "27")).ID
	require.Equal(t, base, same, "the same instant and operation, spelled otherwise")
	for _, other := range []string{
		body("8", "Customer", "1", "Merge", "2026-01-02T03:04:05Z", "27"),
		body("9", "Vendor", "1", "Merge", "2026-01-02T03:04:05Z", "27"),
		body("9", "Customer", "11", "Merge", "2026-01-02T03:04:05Z", "27"),
		body("9", "Customer", "1", "Update", "2026-01-02T03:04:05Z", "27"),
		body("9", "Customer", "1", "Merge", "2026-01-02T03:04:06Z", "27"),
		body("9", "Customer", "1", "Merge", "", "27"),
		body("9", "Customer", "1", "Merge", "2026-01-02T03:04:05Z", "28"),
	} {
		require.NotEqual(t, base, event(t, other).ID, other)
	}
}

func TestParse_Times(t *testing.T) {
	for _, tt := range []struct {
		name string
		json string
		want string
	}{
		{name: "zone without a colon", json: `"2015-10-05T14:42:19-0700"`, want: "2015-10-05T21:42:19Z"},
		{name: "zone with a colon", json: `"2015-10-05T14:42:19-07:00"`, want: "2015-10-05T21:42:19Z"},
		{name: "zone of hours", json: `"2015-10-05T14:42:19-07"`, want: "2015-10-05T21:42:19Z"},
		{name: "milliseconds, zone without a colon", json: `"2015-10-05T14:42:19.000-0700"`, want: "2015-10-05T21:42:19Z"},
		{name: "milliseconds", json: `"2025-09-08T20:52:31.657Z"`, want: "2025-09-08T20:52:31.657Z"},
		{name: "nanoseconds", json: `"2025-09-10T21:31:25.179851517Z"`, want: "2025-09-10T21:31:25.179851517Z"},
		{name: "more digits than nanoseconds", json: `"2025-09-10T21:31:25.1798515179Z"`, want: "2025-09-10T21:31:25.179851517Z"},
		{name: "lower case", json: `"2015-10-05t21:42:19z"`, want: "2015-10-05T21:42:19Z"},
		{name: "no zone", json: `"2015-10-05T21:42:19"`, want: "2015-10-05T21:42:19Z"},
		{name: "a space", json: `"2015-10-05 21:42:19"`, want: "2015-10-05T21:42:19Z"},
		{name: "epoch milliseconds", json: `1757364751657`, want: "2025-09-08T20:52:31.657Z"},
		{name: "epoch milliseconds as text", json: `"1757364751657"`, want: "2025-09-08T20:52:31.657Z"},
		{name: "epoch seconds", json: `1444081339`, want: "2015-10-05T21:42:19Z"},
		{name: "empty", json: `""`},
		{name: "null", json: `null`},
		{name: "words", json: `"yesterday"`},
		{name: "an object", json: `{"t":1}`},
		{name: "a fraction", json: `1757364751.657`},
		{name: "before QuickBooks Online", json: `"1999-12-31T23:59:59Z"`},
		{name: "year 2100", json: `"2100-01-01T00:00:00Z"`},
		{name: "microseconds", json: `1757364751657000`},
		{name: "beyond any clock", json: `9223372036854775807`},
		{name: "below any clock", json: `-9223372036854775808`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			legacy := event(t, `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Item","id":"1","operation":"Create","lastUpdated":`+tt.json+`}]}}]}`)
			ce := event(t, `[{"id":"e","type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9","time":`+tt.json+`}]`)
			require.Equal(t, legacy.OccurredAt, ce.OccurredAt)
			if tt.want == "" {
				require.True(t, ce.OccurredAt.IsZero())
				return
			}
			require.Equal(t, utc(tt.want), ce.OccurredAt)
		})
	}
}

func TestParse_TwoDifferentTimesAreNoTime(t *testing.T) {
	e := event(t, `[{"id":"e","type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9","time":"2026-01-02T03:04:05Z","time":"2026-01-02T03:04:06Z"}]`)
	require.True(t, e.OccurredAt.IsZero())
	e = event(t, `[{"id":"e","type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9","time":"2026-01-02T03:04:05Z","time":"2026-01-02T04:04:05+0100"}]`)
	require.Equal(t, utc("2026-01-02T03:04:05Z"), e.OccurredAt)
}
