package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// ceItem is a well-formed event; with are more attributes, or others.
func ceItem(id, realm, entityID, with string) string {
	return `{"id":"` + id + `","type":"qbo.item.updated.v1","intuitaccountid":"` + realm + `","intuitentityid":"` + entityID + `"` + with + `}`
}

func ids(n webhook.Notification) []string {
	var out []string
	for _, e := range n.Events {
		out = append(out, e.RealmID+"/"+e.EntityID)
	}
	return out
}

// The portal's list against the table of entities: each type, as CloudEvents
// and as the legacy format spell it, is the entity and the operation of the table.
func TestParse_EveryTypeInBothSpellings(t *testing.T) {
	list, err := os.ReadFile("../entity/testdata/portal_108.txt")
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, typ := range strings.Fields(string(list)) {
		listed[typ] = true
	}
	require.Len(t, listed, 108)
	spelled := map[string]struct {
		event string
		is    ledgerfeedv1.Operation
	}{
		"Create": {"created", create}, "Update": {"updated", update}, "Delete": {"deleted", remove},
		"Merge": {"merged", merge}, "Void": {"void", void}, "Emailed": {"emailed", email},
	}
	for _, info := range entity.All() {
		for _, operation := range info.Operations {
			typ := "qbo." + strings.ToLower(info.Name) + "." + spelled[operation].event + ".v1"
			require.True(t, listed[typ], typ)
			delete(listed, typ)

			want := webhook.Event{ID: "e", RealmID: "9", Entity: info.Name, EntityID: "1", Operation: spelled[operation].is}
			require.Equal(t, want, event(t, `[{"specversion":"1.0","id":"e","type":"`+typ+`","intuitentityid":"1","intuitaccountid":"9"}]`))
			got := event(t, `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"`+info.Name+`","id":"1","operation":"`+operation+`"}]}}]}`)
			want.ID = got.ID
			require.Equal(t, want, got)
		}
	}
	require.Empty(t, listed, "the table lacks types of the portal")
}

func TestParse_MissingAttributes(t *testing.T) {
	all := map[string]string{
		"specversion": `"1.0"`, "id": `"e"`, "source": `"intuit.x"`, "datacontenttype": `"application/json"`, "time": `"2026-01-02T03:04:05Z"`, "data": `{}`,
		"type": `"qbo.item.created.v1"`, "intuitentityid": `"1"`, "intuitaccountid": `"9"`,
	}
	for missing := range all {
		var members []string
		for name, value := range all {
			if name != missing {
				members = append(members, `"`+name+`":`+value)
			}
		}
		n := parse(t, "[{"+strings.Join(members, ",")+"}]")
		switch missing {
		case "type", "intuitentityid", "intuitaccountid": // where to look is not known
			require.Len(t, n.Rejected, 1, missing)
		default:
			require.Empty(t, n.Rejected, missing)
			require.Equal(t, []string{"9/1"}, ids(n), missing)
			require.NotEmpty(t, n.Events[0].ID, missing)
			require.Equal(t, missing == "time", n.Events[0].OccurredAt.IsZero(), missing)
		}
	}
}

func TestParse_DeletedIDInEverySpellingAndPlace(t *testing.T) {
	for _, spelling := range []string{"deletedid", "deletedId", "deletedID", "DeletedId"} {
		for _, id := range []string{`"27"`, `27`, `" 27 "`} {
			for _, field := range []string{
				`,"` + spelling + `":` + id,
				`,"data":{"x":[],"` + spelling + `":` + id + `}`,
				`,"data":{},"` + spelling + `":` + id,
				`,"data":{"y":1},"data":{"` + spelling + `":` + id + `}`,
			} {
				ce := event(t, `[{"type":"qbo.customer.merged.v1","intuitentityid":"1","intuitaccountid":"9"`+field+`}]`)
				require.Equal(t, "27", ce.MergedID, field)
				legacy := event(t, `{"eventNotifications":[{"realmId":"9","dataChangeEvent":{"entities":[{"name":"Customer","id":"1","operation":"Merge"`+field+`}]}}]}`)
				require.Equal(t, "27", legacy.MergedID, field)
				require.Equal(t, ce, legacy, "an event without an id has the same one in both formats")
			}
		}
	}
}

func TestParse_ArrayOfBothFormats(t *testing.T) {
	n := parse(t, `[`+ceItem("a", "1", "1", "")+`,
		{"eventNotifications":[
			{"realmId":"2","dataChangeEvent":{"entities":[{"name":"Item","id":"2"},{"name":"Item","id":"3"}]}},
			{"realmId":"3","dataChangeEvent":{"entities":[{"name":"Item","id":"4"},7]}}]},
		8,`+ceItem("b", "2", "5", "")+`]`)
	require.Equal(t, []string{"1/1", "2/2", "2/3", "3/4", "2/5"}, ids(n))
	require.Empty(t, cmp.Diff([]webhook.Rejected{
		{RealmID: "3", Raw: []byte("7"), Reason: "the entity is not an object"},
		{Raw: []byte("8"), Reason: "the event is not an object"},
	}, n.Rejected))
}

func TestParse_InvalidUTF8(t *testing.T) {
	good := ceItem("a", "1", "1", "")
	for _, tt := range []struct {
		name string
		item string
		want []string
	}{
		{name: "in data", item: ceItem("b", "1", "2", `,"data":{"name":"`+"\xff\xc3"+`"}`), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in the keys of data", item: ceItem("b", "1", "2", `,"data":{"`+"\xff"+`":1}`), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in a key", item: ceItem("b", "1", "2", `,"intuitentityid`+"\xff"+`":"3"`), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in source", item: ceItem("b", "1", "2", `,"source":"`+"\xed\xa0\x80"+`"`), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in the time", item: ceItem("b", "1", "2", `,"time":"2026`+"\xff"+`"`), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in the event's id", item: ceItem("b\xff", "1", "2", ""), want: []string{"1/1", "1/2", "1/1"}},
		{name: "in the entity's id", item: ceItem("b", "1", "2\xff", ""), want: []string{"1/1", "1/1"}},
		{name: "in the realm", item: ceItem("b", "1\xc3", "2", ""), want: []string{"1/1", "1/1"}},
		{name: "half a pair, escaped", item: ceItem("b", "1", `2\ud800`, ""), want: []string{"1/1", "1/1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := parse(t, "["+good+","+tt.item+","+good+"]")
			require.Equal(t, tt.want, ids(n))
			require.Len(t, n.Rejected, 3-len(tt.want))
			for _, r := range n.Rejected {
				require.Equal(t, tt.item, string(r.Raw))
			}
			for _, e := range n.Events {
				require.NotContains(t, e.ID, "\uFFFD")
			}
		})
	}
}

// encoding/json reads 10,000 levels. A deeper value costs nothing but itself.
func TestParse_DeepNestingLosesNoSibling(t *testing.T) {
	const levels = 1_000_000
	arrays := strings.Repeat("[", levels) + strings.Repeat("]", levels)
	objects := strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels)
	good := ceItem("a", "1", "1", "")

	n := parse(t, "["+good+","+ceItem("b", "1", "2", `,"data":{"deletedid":`+arrays+`,"x":`+objects+`}`)+","+good+"]")
	require.Empty(t, n.Rejected)
	require.Equal(t, []string{"1/1", "1/2", "1/1"}, ids(n))

	for _, deep := range []string{arrays, objects, `{"type":` + arrays + `}`} {
		n = parse(t, "["+good+","+deep+","+good+"]")
		require.Equal(t, []string{"1/1", "1/1"}, ids(n))
		require.Len(t, n.Rejected, 1)
		require.Equal(t, deep, string(n.Rejected[0].Raw))
	}

	const entity = `{"name":"Item","id":"1"}`
	n = parse(t, `{"x":`+arrays+`,"eventNotifications":[`+arrays+`,{"realmId":"1","dataChangeEvent":{"entities":[`+entity+`,`+objects+`,`+entity+`]}}]}`)
	require.Equal(t, []string{"1/1", "1/1"}, ids(n))
	require.Len(t, n.Rejected, 2)
}

func TestParse_NumbersForStrings(t *testing.T) {
	const big = "123456789012345678901234567890"
	for _, body := range []string{
		`[{"id":1,"type":"qbo.item.updated.v1","intuitaccountid":9130347957983376,"intuitentityid":` + big + `}]`,
		`{"eventNotifications":[{"realmId":9130347957983376,"dataChangeEvent":{"entities":[{"name":"Item","id":` + big + `,"operation":"Update"}]}}]}`,
	} {
		e := event(t, body)
		require.Equal(t, "9130347957983376", e.RealmID)
		require.Equal(t, big, e.EntityID, "every digit, as it stood")
	}
	for _, number := range []string{"1.0", "1e3", "-1.5E-2"} {
		n := parse(t, `[{"type":"qbo.item.updated.v1","intuitaccountid":1,"intuitentityid":`+number+`}]`)
		require.Empty(t, n.Events)
		require.Equal(t, "intuitentityid is neither a string nor an integer", n.Rejected[0].Reason)
	}
}

// What Intuit says it sends at most.
func TestParse_HundredEventsOfAMegabyte(t *testing.T) {
	filler := `,"data":{"Line":[` + strings.Repeat(`{"Amount":100.25,"Description":"a \"line\" – ü","Detail":{"ItemRef":{"value":"7"}}},`, 120) + `null]}`
	var items, want []string
	for i := range 100 {
		realm, id := fmt.Sprint(i%7), fmt.Sprint(i)
		items = append(items, ceItem("e"+id, realm, id, filler))
		want = append(want, realm+"/"+id)
	}
	body := "[" + strings.Join(items, ",\n") + "]"
	require.Greater(t, len(body), 1_000_000)
	n := parse(t, body)
	require.Empty(t, n.Rejected)
	require.Equal(t, want, ids(n))
}

func TestParse_RepeatedKeys(t *testing.T) {
	for _, tt := range []struct {
		name   string
		with   string
		reason string // empty: it is an event
	}{
		{name: "the same realm", with: `,"intuitaccountid":9,"IntuitAccountID":" 9"`},
		{name: "the same type", with: `,"type":"qbo.item.updated.v1"`},
		{name: "another event id", with: `,"id":"f"`},
		{name: "another data", with: `,"data":{},"data":[]`},
		{name: "an empty realm", with: `,"intuitaccountid":"","intuitaccountid":null`},
		{name: "another realm", with: `,"intuitaccountid":"8"`, reason: "intuitaccountid is given twice with different values"},
		{name: "another entity id", with: `,"intuitentityid":"8"`, reason: "intuitentityid is given twice with different values"},
		{name: "another type", with: `,"type":"qbo.item.deleted.v1"`, reason: "type is given twice with different values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := parse(t, "["+ceItem("e", "9", "1", tt.with)+"]")
			if tt.reason == "" {
				require.Equal(t, []string{"9/1"}, ids(n))
				require.Equal(t, "e", n.Events[0].ID)
				return
			}
			require.Empty(t, n.Events)
			require.Equal(t, tt.reason, n.Rejected[0].Reason)
		})
	}
}

// Millions of items that are no events must not become millions of dead letters,
// and the event between them is one all the same.
func TestParse_TooManyItemsThatAreNoEvents(t *testing.T) {
	n := parse(t, "["+strings.Repeat("0,", 9_999)+"0]")
	require.Len(t, n.Rejected, 10_000)
	require.Zero(t, n.Unlisted)
	n = parse(t, "["+strings.Repeat("0,", 1<<20)+ceItem("e", "9", "1", "")+",0]")
	require.Len(t, n.Rejected, 10_000)
	require.Equal(t, 1<<20+1-10_000, n.Unlisted)
	require.Equal(t, []string{"9/1"}, ids(n))
}

// What is JSON and what is not, next to encoding/json: every sample with every
// byte replaced, left out, doubled, and cut off at every place.
func TestParse_KnowsJSON(t *testing.T) {
	check := func(text string) {
		_, err := webhook.Parse([]byte(text))
		var bad *webhook.ParseError
		isNot := errors.As(err, &bad) && bad.Reason == "the body is not JSON"
		if bare := strings.TrimSpace(text); bare != "" {
			require.Equal(t, json.Valid([]byte(bare)), !isNot, "%q", text)
		}
	}
	const replacements = "{}[]\",:;\\/0123-+.eEuUabtrnfl \t\n\v\x00\x1f\x7f\x80\xff"
	for _, sample := range []string{
		`[]`, `{}`, `[[],{}]`, `{"a":{"b":[1,2,{"c":null}]},"d":[]}`, `[true,false,null]`, `[0,-0,10,-1.5,1e5,1E+5,2.25e-10]`,
		`["","a","\"\\\/\b\f\n\r\t","\u00e9\uD834\udd1e","é"]`, ` { "a" : 1 , "b" : [ 2 ] } `, `[{"id":"1","data":{"x":[{}]}},7]`,
	} {
		check(sample)
		for i := range sample {
			check(sample[:i])
			check(sample[:i] + sample[i+1:])
			check(sample[:i] + sample[i:i+1] + sample[i:])
			for _, c := range []byte(replacements) {
				check(sample[:i] + string([]byte{c}) + sample[i+1:])
				check(sample[:i] + string([]byte{c}) + sample[i:])
			}
		}
	}
}

func TestParse_SaysWhereABodyStopsBeingJSON(t *testing.T) {
	for body, want := range map[string]string{
		`[{"id":"a"`:             "it ends too early, after 10 bytes",
		`[1,]`:                   "unexpected character after 3 bytes",
		`[1 2]`:                  "unexpected character after 3 bytes",
		`{"a" 1}`:                "unexpected character after 5 bytes",
		`[tru]`:                  "unexpected character after 4 bytes",
		`[] x`:                   "unexpected character after 3 bytes",
		"[\"a\x01\"]":            "unexpected character after 3 bytes",
		`["\x"]`:                 "unexpected character after 3 bytes",
		`[01]`:                   "unexpected character after 2 bytes",
		`[{"type":"secret",},1]`: "unexpected character after 18 bytes",
	} {
		_, err := webhook.Parse([]byte(body))
		require.EqualError(t, err, "parse notification: the body is not JSON: "+want, body)
	}
}
