package webhook_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

const (
	create = ledgerfeedv1.Operation_OPERATION_CREATE
	update = ledgerfeedv1.Operation_OPERATION_UPDATE
	remove = ledgerfeedv1.Operation_OPERATION_DELETE
	merge  = ledgerfeedv1.Operation_OPERATION_MERGE
	void   = ledgerfeedv1.Operation_OPERATION_VOID
	email  = ledgerfeedv1.Operation_OPERATION_EMAILED
)

// tb is a *testing.T, or a *rapid.T, which must fail itself to be made smaller.
type tb interface {
	require.TestingT
	Helper()
}

func parse(t tb, body string) webhook.Notification {
	t.Helper()
	n, err := webhook.Parse([]byte(body))
	require.NoError(t, err)
	return n
}

// event parses a body that must hold exactly one event and nothing else.
func event(t tb, body string) webhook.Event {
	t.Helper()
	n := parse(t, body)
	require.Empty(t, n.Rejected)
	require.Len(t, n.Events, 1)
	return n.Events[0]
}

func utc(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return at.UTC()
}

func TestParse_IntuitsSamples(t *testing.T) {
	for _, tt := range []struct {
		file string
		want webhook.Notification
	}{
		{file: "ce_intuit_doc_account_created.json", want: webhook.Notification{
			Format: webhook.CloudEvents,
			Events: []webhook.Event{{
				ID: "88cd52aa-33b6-4351-9aa4-47572edbd068", RealmID: "310687", Entity: "Account", EntityID: "1234",
				Operation: create, OccurredAt: utc("2025-09-10T21:31:25.179851517Z"),
			}},
		}},
		{file: "ce_sampleapp_readme_customer_created.json", want: webhook.Notification{
			Format: webhook.CloudEvents,
			Events: []webhook.Event{{
				ID: "88cd52aa-33b6-4351-9aa4-47572edbd068", RealmID: "310687", Entity: "Customer", EntityID: "1234",
				Operation: create, OccurredAt: utc("2025-09-10T21:31:25.179Z"),
			}},
		}},
		{file: "ce_sampleapp_test_unknown_type.json", want: webhook.Notification{
			Format: webhook.CloudEvents,
			Events: []webhook.Event{{
				ID: "test-999", RealmID: "123456", Entity: "unknown", EntityID: "99", OperationName: "entity",
			}},
		}},
		{file: "ce_intuit_sampleapp_batch_event_template.json", want: webhook.Notification{
			Format: webhook.CloudEvents,
			Events: []webhook.Event{{
				ID: "size-test-001", RealmID: "9876543210", Entity: "Customer", EntityID: "1",
				Operation: update, OccurredAt: utc("2026-03-17T13:00:00Z"),
			}},
		}},
		{file: "legacy_intuit_blog_2025.json", want: webhook.Notification{
			Format: webhook.Legacy,
			Events: []webhook.Event{{
				ID: "aa54666eeb95d8c31d6d7ecc828fda6d", RealmID: "310687", Entity: "Account", EntityID: "1234",
				Operation: create, OccurredAt: utc("2025-09-08T20:52:31.657Z"),
			}},
		}},
		{file: "legacy_intuit_doc_two_entities.json", want: webhook.Notification{
			Format: webhook.Legacy,
			Events: []webhook.Event{{
				ID: "406b4768a673ba069f5d7fccd8a5cd06", RealmID: "1185883450", Entity: "Customer", EntityID: "1",
				Operation: create, OccurredAt: utc("2015-10-05T21:42:19Z"),
			}, {
				ID: "6596c1f316c39cae8ce78e8749a80068", RealmID: "1185883450", Entity: "Vendor", EntityID: "1",
				Operation: create, OccurredAt: utc("2015-10-05T21:42:19Z"),
			}},
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			require.Empty(t, cmp.Diff(tt.want, parse(t, string(read(t, tt.file)))))
		})
	}
}

func TestParse_SeveralRealmsInOneBody(t *testing.T) {
	n := parse(t, `[
		{"id":"a","type":"qbo.invoice.created.v1","intuitentityid":"1","intuitaccountid":"10"},
		{"id":"b","type":"qbo.invoice.updated.v1","intuitentityid":"1","intuitaccountid":"20"},
		{"id":"c","type":"qbo.customer.merged.v1","intuitentityid":"2","intuitaccountid":"10"}]`)
	require.Empty(t, cmp.Diff([]webhook.Event{
		{ID: "a", RealmID: "10", Entity: "Invoice", EntityID: "1", Operation: create},
		{ID: "b", RealmID: "20", Entity: "Invoice", EntityID: "1", Operation: update},
		{ID: "c", RealmID: "10", Entity: "Customer", EntityID: "2", Operation: merge},
	}, n.Events))

	n = parse(t, `{"eventNotifications":[
		{"realmId":"10","dataChangeEvent":{"entities":[{"name":"Item","id":"1","operation":"Update"}]}},
		{"realmId":"20","dataChangeEvent":{"entities":[{"name":"Item","id":"1","operation":"Update"}]}}]}`)
	require.Len(t, n.Events, 2)
	require.Equal(t, "10", n.Events[0].RealmID)
	require.Equal(t, "20", n.Events[1].RealmID)
	require.NotEqual(t, n.Events[0].ID, n.Events[1].ID)
}

func TestParse_BadItemsAreRejectedAndTheOthersPass(t *testing.T) {
	good := `{"id":"a","type":"qbo.invoice.created.v1","intuitentityid":"1","intuitaccountid":"10"}`
	for _, tt := range []struct {
		name   string
		item   string
		realm  string
		reason string
	}{
		{name: "number", item: `7`, reason: "the event is not an object"},
		{name: "null", item: `null`, reason: "the event is not an object"},
		{name: "array", item: `[ "}", 1 ]`, reason: "the event is not an object"},
		{name: "empty object", item: `{}`, reason: "type is missing"},
		{name: "no realm", item: `{"type":"qbo.item.created.v1","intuitentityid":"1"}`, reason: "realm id is missing"},
		{name: "null realm", item: `{"type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":null}`, reason: "realm id is missing"},
		{name: "no id", item: `{"type":"qbo.item.created.v1","intuitaccountid":"9"}`, realm: "9", reason: "entity id is missing"},
		{name: "blank id", item: `{"type":"qbo.item.created.v1","intuitaccountid":"9","intuitentityid":" "}`, realm: "9", reason: "entity id is missing"},
		{name: "no type", item: `{"intuitentityid":"1","intuitaccountid":"9"}`, realm: "9", reason: "type is missing"},
		{name: "type of one word", item: `{"type":"invoice","intuitentityid":"1","intuitaccountid":"9"}`, realm: "9", reason: "type has not the form namespace.entity.operation.version"},
		{name: "type without operation", item: `{"type":"qbo.invoice.v1","intuitentityid":"1","intuitaccountid":"9"}`, realm: "9", reason: "type has not the form namespace.entity.operation.version"},
		{name: "type with a hole", item: `{"type":"qbo..created.v1","intuitentityid":"1","intuitaccountid":"9"}`, realm: "9", reason: "type has not the form namespace.entity.operation.version"},
		{name: "id is an object", item: `{"type":"qbo.item.created.v1","intuitentityid":{"v":1},"intuitaccountid":"9"}`, realm: "9", reason: "intuitentityid is neither a string nor an integer"},
		{name: "id is a fraction", item: `{"type":"qbo.item.created.v1","intuitentityid":1.5,"intuitaccountid":"9"}`, realm: "9", reason: "intuitentityid is neither a string nor an integer"},
		{name: "realm is true", item: `{"type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":true}`, reason: "intuitaccountid is neither a string nor an integer"},
		{name: "id twice", item: `{"type":"qbo.item.created.v1","intuitentityid":"1","intuitEntityId":"2","intuitaccountid":"9"}`, realm: "9", reason: "intuitentityid is given twice with different values"},
		{name: "NUL in the id", item: `{"type":"qbo.item.created.v1","intuitentityid":"1\u0000","intuitaccountid":"9"}`, realm: "9", reason: "entity id has characters that cannot be printed"},
		{name: "line break in the realm", item: `{"type":"qbo.item.created.v1","intuitentityid":"1","intuitaccountid":"9\n9"}`, reason: "realm id has characters that cannot be printed"},
		{name: "lost bytes", item: "{\"type\":\"qbo.item.created.v1\",\"intuitentityid\":\"1\xff\",\"intuitaccountid\":\"9\"}", realm: "9", reason: "entity id has characters that cannot be printed"},
		{name: "huge id", item: `{"type":"qbo.item.created.v1","intuitentityid":"` + strings.Repeat("1", 129) + `","intuitaccountid":"9"}`, realm: "9", reason: "entity id is longer than 128 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := parse(t, "["+good+" , "+tt.item+" ,"+strings.Replace(good, `"a"`, `"b"`, 1)+"]")
			require.Len(t, n.Events, 2)
			require.Equal(t, "a", n.Events[0].ID)
			require.Equal(t, "b", n.Events[1].ID)
			require.Empty(t, cmp.Diff([]webhook.Rejected{{RealmID: tt.realm, Raw: []byte(tt.item), Reason: tt.reason}}, n.Rejected))
		})
	}
}

func TestParse_RejectedBytesAreACopy(t *testing.T) {
	body := []byte(`[{"x":1}]`)
	n, err := webhook.Parse(body)
	require.NoError(t, err)
	clear(body)
	require.Equal(t, `{"x":1}`, string(n.Rejected[0].Raw))
}

func TestParse_UnreadableBodies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   string
		reason string
	}{
		{name: "nothing", body: "", reason: "the body is empty"},
		{name: "white space", body: " \r\n", reason: "the body is empty"},
		{name: "only a byte order mark", body: "\xef\xbb\xbf", reason: "the body is empty"},
		{name: "not JSON", body: "<html>token-x</html>", reason: "the body is not JSON"},
		{name: "cut short", body: `[{"id":"a"`, reason: "the body is not JSON"},
		{name: "two values", body: `[] []`, reason: "the body is not JSON"},
		{name: "UTF-16", body: "\xff\xfe[\x00]\x00", reason: "the body is not JSON"},
		{name: "deep arrays", body: strings.Repeat("[", 1_000_000), reason: "the body is not JSON"},
		{name: "deep objects", body: strings.Repeat(`{"a":`, 1_000_000), reason: "the body is not JSON"},
		{name: "a string", body: `"qbo.invoice.created.v1"`, reason: "the body is neither CloudEvents nor eventNotifications"},
		{name: "null", body: `null`, reason: "the body is neither CloudEvents nor eventNotifications"},
		{name: "another object", body: `{"hello":"token-x"}`, reason: "the body is neither CloudEvents nor eventNotifications"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := webhook.Parse([]byte(tt.body))
			var bad *webhook.ParseError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, tt.reason, bad.Reason)
			require.True(t, strings.HasPrefix(err.Error(), "parse notification: "+tt.reason), err.Error())
			require.NotContains(t, err.Error(), "token-x", "an error must not quote the body")
			require.Equal(t, tt.reason == "the body is not JSON", errors.Unwrap(err) != nil)
			require.Zero(t, n)
		})
	}
}

func TestParse_NoEventsIsNoError(t *testing.T) {
	for body, format := range map[string]webhook.Format{
		`[]`:                          webhook.CloudEvents,
		"\xef\xbb\xbf [ ] \n":         webhook.CloudEvents,
		`{"eventNotifications":[]}`:   webhook.Legacy,
		`{"eventNotifications":null}`: webhook.Legacy,
		`{"eventNotifications":[{"realmId":"1","dataChangeEvent":{"entities":[]}}]}`:   webhook.Legacy,
		`{"eventNotifications":[{"realmId":"1","dataChangeEvent":{"entities":null}}]}`: webhook.Legacy,
	} {
		require.Equal(t, webhook.Notification{Format: format}, parse(t, body), body)
	}
}
