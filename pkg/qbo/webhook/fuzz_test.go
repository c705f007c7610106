package webhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// seed adds each JSON sample of testdata.
func seed(f *testing.F, add func(body []byte)) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		add(body)
	}
}

func FuzzVerify(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body, "token", "") })
	f.Add(read(f, "signed_java_sdk_body.json"), vectorToken.Reveal(), vectorSignature)
	f.Add([]byte{}, "", " \t")
	f.Add([]byte("[]"), "t", "not base64")
	f.Fuzz(func(t *testing.T, body []byte, token, signature string) {
		tokens := []secret.String{"", secret.String("other " + token), secret.String(token)}
		signed := webhook.Sign(body, secret.String(token))
		verifier := webhook.NewVerifier(tokens)
		index, err := verifier.Verify(body, signed)
		if token == "" {
			require.ErrorIs(t, err, webhook.ErrSignature)
		} else {
			require.NoError(t, err)
			require.Equal(t, 2, index)
		}
		_, err = verifier.Verify(append(bytes.Clone(body), 'x'), signed)
		require.ErrorIs(t, err, webhook.ErrSignature)

		// Any other header passes only if it decodes to one of the signatures.
		index, err = verifier.Verify(body, signature)
		alone, alike := webhook.Verify(body, signature, tokens)
		require.Equal(t, alone, index, "a used verifier says what a new one says")
		require.Equal(t, alike, err)
		raw, bad := base64.StdEncoding.DecodeString(strings.TrimSpace(signature))
		canonical := base64.StdEncoding.EncodeToString(raw)
		fits := bad == nil && token != "" && canonical == signed ||
			bad == nil && canonical == webhook.Sign(body, tokens[1])
		require.Equal(t, fits, err == nil)
		require.Equal(t, fits, index >= 0)
		require.True(t, err == nil || errors.Is(err, webhook.ErrSignature) || errors.Is(err, webhook.ErrNoSignature))
	})
}

func FuzzParseCloudEvents(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Add([]byte(`[{"id":"a","type":"qbo.invoice.void.v1","intuitentityid":1,"intuitaccountid":"2","time":1767323045000},7,null,[[]],{"type":{}}]`))
	f.Add([]byte("\xef\xbb\xbf" + `{"specversion":"1.0","type":"a.b.c","data":{"deletedid":"\u0031"},"intuitentityid":"1","intuitaccountid":"2"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := checkParse(t, body)
		if n.Format != webhook.CloudEvents {
			return
		}
		again, err := webhook.Parse(cloudEvents(t, n.Events))
		require.NoError(t, err)
		require.Empty(t, again.Rejected)
		require.Empty(t, cmp.Diff(n.Events, again.Events), "written and read again")
	})
}

func FuzzParseLegacy(f *testing.F) {
	seed(f, func(body []byte) { f.Add(body) })
	f.Add([]byte(`{"eventNotifications":[{"realmId":1,"dataChangeEvent":{"entities":[{"name":"x","id":1},{"id":{}},null]}},{"realmId":"2"},3]}`))
	f.Add([]byte(`{"EVENTNOTIFICATIONS":{"realmid":"1","datachangeevent":[{"entities":{"name":"Customer","id":"1","operation":"merge","deletedID":2}}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := checkParse(t, body)
		written := legacy(t, n.Events)
		again, err := webhook.Parse(written)
		require.NoError(t, err)
		require.Empty(t, again.Rejected)
		// The format has no ids: events that came with one get another, a stable one.
		require.Empty(t, cmp.Diff(n.Events, again.Events, cmpopts.IgnoreFields(webhook.Event{}, "ID")), "written and read again")
		require.Equal(t, written, legacy(t, again.Events))
		stable, err := webhook.Parse(legacy(t, again.Events))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(again.Events, stable.Events))
	})
}

// checkParse holds what must be true of any body.
func checkParse(t tb, body []byte) webhook.Notification {
	t.Helper()
	given := bytes.Clone(body)
	n, err := webhook.Parse(body)
	require.Equal(t, given, body, "the body must not be changed")
	bare := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if err != nil {
		var bad *webhook.ParseError
		require.ErrorAs(t, err, &bad)
		require.Zero(t, n)
		if valid, deep := isJSON(bare); !deep && len(bare) > 0 {
			require.Equal(t, valid, bad.Reason != "the body is not JSON", bad.Reason)
		}
		return webhook.Notification{}
	}
	requireJSON(t, bare)
	requireAccounted(t, bare, n)
	for _, e := range n.Events {
		for _, field := range []string{e.ID, e.RealmID, e.Entity, e.EntityID} {
			require.NotEmpty(t, field)
			require.LessOrEqual(t, len(field), 128)
			require.NotContains(t, field, "\x00")
			require.Equal(t, strings.TrimSpace(field), field)
		}
		require.False(t, e.Operation != 0 && e.OperationName != "", "a known operation needs no name")
		require.False(t, e.MergedID != "" && e.Operation != merge)
		if !e.OccurredAt.IsZero() {
			require.Equal(t, time.UTC, e.OccurredAt.Location())
			require.True(t, e.OccurredAt.Year() >= 2000 && e.OccurredAt.Year() < 2100)
		}
	}
	for _, r := range n.Rejected {
		require.NotEmpty(t, r.Reason)
		requireJSON(t, r.Raw)
		require.True(t, bytes.Contains(body, r.Raw))
	}
	return n
}

// isJSON is what encoding/json says; it cannot judge what is too deep for it.
func isJSON(b []byte) (valid, deep bool) {
	var discard json.RawMessage
	err := json.Unmarshal(b, &discard)
	return err == nil, err != nil && strings.Contains(err.Error(), "exceeded max depth")
}

func requireJSON(t tb, b []byte) {
	t.Helper()
	valid, deep := isJSON(b)
	require.True(t, valid || deep, "%q is not one JSON value", b)
}

// requireAccounted counts the items of an array of CloudEvents: each is an event
// or rejected, and what is rejected is there as it came, in the order it came.
func requireAccounted(t tb, body []byte, n webhook.Notification) {
	t.Helper()
	var items []json.RawMessage
	if n.Format != webhook.CloudEvents || json.Unmarshal(body, &items) != nil {
		return
	}
	require.Equal(t, len(items), len(n.Events)+len(n.Rejected), "each item is an event or rejected, once")
	for _, r := range n.Rejected {
		i := slices.IndexFunc(items, func(item json.RawMessage) bool { return bytes.Equal(item, r.Raw) })
		require.GreaterOrEqual(t, i, 0, "%q is no item, or not in its place", r.Raw)
		items = items[i+1:]
	}
}

func spelled(e webhook.Event) string {
	name := map[ledgerfeedv1.Operation]string{create: "created", update: "updated", remove: "deleted", merge: "merged", void: "void", email: "emailed"}[e.Operation]
	return name + e.OperationName
}

// cloudEvents writes events as Intuit would.
func cloudEvents(t testing.TB, events []webhook.Event) []byte {
	t.Helper()
	items := []map[string]any{}
	for _, e := range events {
		item := map[string]any{
			"specversion": "1.0", "id": e.ID, "type": "qbo." + e.Entity + "." + spelled(e) + ".v1",
			"intuitentityid": e.EntityID, "intuitaccountid": e.RealmID,
			"data": map[string]string{"deletedid": e.MergedID},
		}
		if !e.OccurredAt.IsZero() {
			item["time"] = e.OccurredAt.Format(time.RFC3339Nano)
		}
		items = append(items, item)
	}
	body, err := json.Marshal(items)
	require.NoError(t, err)
	return body
}

// legacy writes events as Intuit did.
func legacy(t testing.TB, events []webhook.Event) []byte {
	t.Helper()
	notifications := []any{}
	for _, e := range events {
		item := map[string]any{"name": e.Entity, "id": e.EntityID, "operation": spelled(e), "deletedId": e.MergedID}
		if !e.OccurredAt.IsZero() {
			item["lastUpdated"] = e.OccurredAt.Format(time.RFC3339Nano)
		}
		notifications = append(notifications, map[string]any{
			"realmId": e.RealmID, "dataChangeEvent": map[string]any{"entities": []any{item}},
		})
	}
	body, err := json.Marshal(map[string]any{"eventNotifications": notifications})
	require.NoError(t, err)
	return body
}
