package ingress_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

func TestServer_StoresWhatWasSent(t *testing.T) {
	b := setup(t)
	body := []byte(`[
	 {"specversion":"1.0","id":"e1","type":"qbo.invoice.created.v1","time":"2026-11-23T10:20:29.123456789Z","intuitentityid":"11","intuitaccountid":"310687"},
	 {"specversion":"1.0","id":"e2","type":"qbo.customer.merged.v1","time":"2026-11-23T10:20:28Z","intuitentityid":"7","intuitaccountid":"9130347957983376","data":{"deletedId":"8"}},
	 {"specversion":"1.0","id":"e3","type":"qbo.invoice.void.v1","time":"2026-11-23T10:20:27Z","intuitentityid":"12","intuitaccountid":"310687"}]`)
	req := b.request(body, newToken)
	req.Header.Set("Intuit-T-Id", "1-2-3")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	got, err := b.send(req)
	require.NoError(t, err)
	require.Equal(t, 200, got.status)

	n, err := webhook.Parse(body)
	require.NoError(t, err)
	want := envelope.FromNotification(body, n, envelope.Meta{
		App: "demo", IntuitTID: "1-2-3", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ReceivedAt: now,
	})
	require.Len(t, want, 2, "one for each realm")
	envs := b.takes(2)
	if envs[0].RealmId != want[0].RealmId {
		envs[0], envs[1] = envs[1], envs[0] // the stream has no order between realms
	}
	require.Empty(t, cmp.Diff(want, envs, protocmp.Transform()))
	require.Equal(t, "8", envs[1].Events[0].MergedId)
	require.Equal(t, ledgerfeedv1.Operation_OPERATION_VOID, envs[0].Events[1].Operation)

	require.EqualValues(t, 3, b.metric("ledgerfeed_ingress_events_total", "app", "demo"))
	require.EqualValues(t, len(body), b.metric("ledgerfeed_ingress_body_bytes_total", "app", "demo"))
	require.EqualValues(t, 1, b.metric("ledgerfeed_ingress_token_matches_total", "app", "demo", "token", "2"))
	require.EqualValues(t, 0, b.metric("ledgerfeed_ingress_token_matches_total", "app", "demo", "token", "1"))
	require.EqualValues(t, 1, b.metric("ledgerfeed_ingress_ack_seconds"))
}

// The one signature Intuit published, with its token and body.
func TestServer_TakesIntuitsVector(t *testing.T) {
	body, err := os.ReadFile("testdata/signed_java_sdk_body.json")
	require.NoError(t, err)
	b := setup(t, configured(func(c *ingress.IngressConfig) { c.Apps = "demo=b5771f19b12ddb4bcdb9f08bdc50bc63878a" }))
	req := b.request(body, "")
	req.Header.Set("intuit-signature", "JC2GUwciPmRBwEO7WvrRmKqu9tGOKL8FFallocTFi8Q=")
	got, err := b.send(req)
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
	n, err := webhook.Parse(body)
	require.NoError(t, err)
	require.Empty(t, n.Rejected)
	var events int
	for _, env := range b.takes(b.stored()) {
		events += len(env.Events)
	}
	require.Equal(t, len(n.Events), events)
	require.NotZero(t, events)
}

func TestServer_SentTwiceIsStoredOnce(t *testing.T) {
	b := setup(t)
	for range 3 {
		require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
		require.Equal(t, 200, b.post([]byte("junk"), oldToken).status)
	}
	require.Equal(t, 1, b.stored())
	require.Len(t, b.letters(), 1)
}

func TestServer_OddHeadersDoNotReachTheStream(t *testing.T) {
	b := setup(t)
	for i, header := range [][2]string{{"Intuit-T-Id", "a b"}, {"Intuit-T-Id", strings.Repeat("x", 129)}, {"Intuit-T-Id", "é"}, {"Traceparent", "00-x"}, {"Traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}} {
		req := b.request(event("1", fmt.Sprint(i)), oldToken)
		req.Header.Set(header[0], header[1])
		got, err := b.send(req)
		require.NoError(t, err)
		require.Equal(t, 200, got.status)
	}
	req := b.request(event("1", "x"), oldToken)
	req.Header["intuit_tid"] = []string{"as-the-page-says"}
	_, err := b.send(req)
	require.NoError(t, err)
	var tids []string
	for _, env := range b.takes(6) {
		require.Empty(t, env.Traceparent)
		tids = append(tids, env.IntuitTid)
	}
	require.ElementsMatch(t, []string{"", "", "", "", "", "as-the-page-says"}, tids)
}

func letter(detail, realm, body string) stream.DeadLetter {
	return stream.DeadLetter{Reason: stream.ReasonUnreadable, Detail: detail, RealmID: realm, App: "demo", Body: []byte(body), Attempts: 1, FirstSeen: now, At: now}
}

func requireLetters(t *testing.T, want, got []stream.DeadLetter) {
	t.Helper()
	for i := range got {
		got[i].Seq, got[i].ID = 0, ""
	}
	require.Empty(t, cmp.Diff(want, got))
}

func TestServer_UnreadableBodyBecomesADeadLetter(t *testing.T) {
	b := setup(t)
	require.Equal(t, 200, b.post([]byte("{\"a\":\x00\xff"), oldToken).status)
	got := b.letters()
	require.Len(t, got, 1)
	require.Contains(t, got[0].Detail, "not JSON")
	requireLetters(t, []stream.DeadLetter{letter(got[0].Detail, "", "{\"a\":\x00\xff")}, got)
	require.Zero(t, b.stored())
	require.EqualValues(t, 1, b.metric("ledgerfeed_ingress_dead_letters_total", "app", "demo"))
	require.Equal(t, 1, b.logs.FilterMessage("notification stored in part as dead letters").Len())
}

func TestServer_UnreadableItemsBecomeDeadLettersAndTheOthersPass(t *testing.T) {
	b := setup(t)
	good := `{"specversion":"1.0","id":"e1","type":"qbo.invoice.created.v1","intuitentityid":"11","intuitaccountid":"310687"}`
	noEntity := `{"specversion":"1.0", "id":"e2","type":"qbo.invoice.created.v1","intuitaccountid":"310687"}`
	require.Equal(t, 200, b.post([]byte("["+noEntity+","+good+",42]"), oldToken).status)
	require.Equal(t, "11", b.takes(1)[0].Events[0].EntityId)
	requireLetters(t, []stream.DeadLetter{
		letter("entity id is missing", "310687", noEntity),
		letter("the event is not an object", "", "42"),
	}, b.letters())
}

func TestServer_ManyUnreadableItemsBecomeOneDeadLetter(t *testing.T) {
	b := setup(t)
	body := "[" + strings.Repeat("0,", 100_000) + "0," + string(event("1", "1")[1:])
	require.Equal(t, 200, b.post([]byte(body), oldToken).status)
	require.Equal(t, "1", b.takes(1)[0].Events[0].EntityId)
	requireLetters(t, []stream.DeadLetter{letter("100001 items cannot be read; the first: the event is not an object", "", body)}, b.letters())
}

// An unreadable body may be larger than what the broker takes in one message,
// and its parts may be the same bytes.
func TestServer_LargeUnreadableBodyIsStoredInParts(t *testing.T) {
	b := setup(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), devserver.MaxPayload/16)
	require.Equal(t, 200, b.post(body, oldToken).status)
	var again []byte
	got := b.letters()
	for i, l := range got {
		require.True(t, strings.HasPrefix(l.Detail, fmt.Sprintf("part %d of %d: ", i+1, len(got))), l.Detail)
		again = append(again, l.Body...)
	}
	require.Greater(t, len(got), 1)
	require.True(t, bytes.Equal(body, again))
}

// A body with more events than Intuit has ever sent still makes it.
func TestServer_LargeNotification(t *testing.T) {
	b := setup(t)
	var body bytes.Buffer
	body.WriteString("[")
	for i := range 5000 {
		if i > 0 {
			body.WriteString(",")
		}
		e := event(fmt.Sprint(i%10), fmt.Sprint(i))
		body.Write(e[1 : len(e)-1])
	}
	body.WriteString("]")
	require.Equal(t, 200, b.post(body.Bytes(), oldToken).status)
	var events int
	for _, env := range b.takes(10) {
		events += len(env.Events)
	}
	require.Equal(t, 5000, events)
}

func TestServer_EachAppHasItsOwnTokens(t *testing.T) {
	b := setup(t)
	for _, tc := range []struct {
		app   string
		token secret.String
		want  int
	}{{"demo", oldToken, 200}, {"demo", newToken, 200}, {"demo", otherToken, 401}, {"other", otherToken, 200}, {"other", oldToken, 401}} {
		req := b.request(event(tc.app, tc.token.Reveal()), tc.token)
		req.URL.Path = "/webhooks/" + tc.app
		got, err := b.send(req)
		require.NoError(t, err)
		require.Equal(t, tc.want, got.status)
	}
	byApp := map[string]int{}
	for _, env := range b.takes(3) {
		byApp[env.App]++
	}
	require.Equal(t, map[string]int{"demo": 2, "other": 1}, byApp)
}

// The dead letters are full: a body that cannot be read is kept elsewhere, and holds back
// no other.
func TestServer_UnreadableBodiesAreStoredThoughTheDeadLettersAreFull(t *testing.T) {
	b := setupOn(t, devtest.NATS(t), func(c *stream.Config) { c.DeadMaxBytes = 1 << 20 })
	bodies := 0
	for ; len(b.letters()) == bodies; bodies++ {
		body := fmt.Appendf(nil, "%d %s", bodies, strings.Repeat("?", 60<<10))
		require.Equal(t, 200, b.post(body, oldToken).status)
		require.Less(t, bodies, 40)
	}
	require.Equal(t, 200, b.post(event("1", "1"), oldToken).status)
	require.Equal(t, 1, b.stored())
	usage, err := b.conn.Usage(t.Context())
	require.NoError(t, err)
	for _, u := range usage {
		if u.Stream == stream.RetryStream {
			require.EqualValues(t, 1, u.Messages, "a 200 is a promise")
		}
	}
}
