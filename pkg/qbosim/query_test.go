package qbosim_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

func queryPath(statement string) string {
	return "/v3/company/" + realm + "/query?query=" + url.QueryEscape(statement)
}

// books are five customers, of whom 2 is inactive and 4 hard-deleted, each
// changed a minute after the one before; then 1 is changed again.
func books(t *testing.T) *bundle {
	b := setup(t)
	for n := range 5 {
		b.create("Customer", map[string]any{"DisplayName": fmt.Sprintf("Customer %c", 'E'-n), "Balance": n * 10})
		b.Advance(time.Minute)
	}
	ref := func(id string) qbosim.Ref { return qbosim.Ref{Realm: realm, Entity: "Customer", ID: id} }
	require.NoError(t, b.Deactivate(ref("2")))
	require.NoError(t, b.HardDelete(ref("4")))
	b.Advance(time.Minute)
	require.NoError(t, b.Update(ref("1"), nil))
	return b
}

func TestQuery_Selects(t *testing.T) {
	t.Parallel()
	b := books(t)
	tests := []struct {
		statement string
		want      []string
	}{
		{"SELECT * FROM Customer", []string{"1", "3", "5"}},
		{"select * from Customer", []string{"1", "3", "5"}},
		{"SELECT * FROM Customer WHERE Active IN (true,false)", []string{"1", "2", "3", "5"}},
		{"SELECT * FROM Customer WHERE Active IN ( true , false )", []string{"1", "2", "3", "5"}},
		{"SELECT * FROM Customer WHERE Active = false", []string{"2"}},
		{"SELECT * FROM Customer WHERE Active = true", []string{"1", "3", "5"}},
		{"SELECT * FROM Customer WHERE Id = '3'", []string{"3"}},
		{"SELECT * FROM Customer WHERE Id = '2'", nil},
		{"SELECT * FROM Customer WHERE Id = '4'", nil},
		{"SELECT * FROM Customer WHERE Id IN ('5','1','4','2','99','1')", []string{"1", "5"}},
		{"SELECT * FROM Customer WHERE Id IN ('5','1') ORDERBY Id DESC", []string{"5", "1"}},
		{"SELECT * FROM Customer WHERE Id IN ('5','2') AND Active IN (true, false)", []string{"2", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime > '2026-11-23T12:02:00Z'", []string{"1", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime >= '2026-11-23T12:02:00Z'", []string{"1", "3", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime >= '2026-11-23T04:02:00-08:00'", []string{"1", "3", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime = '2026-11-23T12:02:00Z'", []string{"3"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime < '2026-11-23T12:04:00Z'", []string{"3"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime <= '2026-11-23T12:04:00Z'", []string{"3", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime >= '2026-11-23T12:02:00Z' AND MetaData.LastUpdatedTime < '2026-11-23T12:06:00Z' AND Active IN (true,false)", []string{"2", "3", "5"}},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime >= '2026-11-23' ORDERBY MetaData.LastUpdatedTime", []string{"3", "5", "1"}},
		{"SELECT * FROM Customer ORDERBY MetaData.LastUpdatedTime ASC", []string{"3", "5", "1"}},
		{"SELECT * FROM Customer ORDER BY MetaData.LastUpdatedTime DESC", []string{"1", "5", "3"}},
		{"SELECT * FROM Customer WHERE MetaData.CreateTime < '2026-11-23T12:01:00Z'", []string{"1"}},
		{"SELECT * FROM Customer ORDERBY Id DESC", []string{"5", "3", "1"}},
		{"SELECT * FROM Customer ORDERBY DisplayName", []string{"5", "3", "1"}},
		{"SELECT * FROM Customer WHERE Balance > '0' ORDERBY Balance DESC", []string{"5", "3"}},
		{"SELECT * FROM Customer WHERE DisplayName LIKE '%er C'", []string{"3"}},
		{"SELECT * FROM Customer STARTPOSITION 2", []string{"3", "5"}},
		{"SELECT * FROM Customer STARTPOSITION 2 MAXRESULTS 1", []string{"3"}},
		{"SELECT * FROM Customer MAXRESULTS 2", []string{"1", "3"}},
		{"SELECT * FROM Customer ORDERBY MetaData.LastUpdatedTime ASC STARTPOSITION 3 MAXRESULTS 1000", []string{"1"}},
		{"SELECT * FROM Customer STARTPOSITION 4", nil},
		{"SELECT * FROM Invoice", nil},
		{"SELECT * FROM TaxCode", nil},
		{"SELECT * FROM Preferences", nil},
	}
	for _, tt := range tests {
		t.Run(tt.statement, func(t *testing.T) {
			require.Equal(t, tt.want, ids(b.query(tt.statement)))
		})
	}
}

func TestQuery_Refuses(t *testing.T) {
	t.Parallel()
	b := books(t)
	tests := []struct {
		statement string
		code      string
		detail    string
	}{
		{"SELECT * FROM Customer WHERE Id = '1' OR Id = '2'", "4000", "QueryParserError"},
		{"SELECT Id FROM Customer", "4000", "QueryParserError"},
		{"SELECT * FROM Customer, Vendor", "4000", "QueryParserError"},
		{"SELECT * FROM Customer GROUP BY Id", "4000", "QueryParserError"},
		{"SELECT * FROM Customer WHERE", "4000", "QueryParserError"},
		{"SELECT * FROM Customer WHERE Id", "4000", "QueryParserError"},
		{"SELECT * FROM Customer WHERE Id = '1", "4000", "Lexical error"},
		{"SELECT * FROM Customer WHERE Id IN ()", "4000", "QueryParserError"},
		{"SELECT * FROM Customer WHERE Id IN ('1'", "4000", "QueryParserError"},
		{"SELECT * FROM Customer;", "4000", "Lexical error"},
		{"SELECT * FROM Customer WHERE Id != '1'", "4000", "Lexical error"},
		{"SELECT * FROM Customer MAXRESULTS 10 STARTPOSITION 1", "4000", "QueryParserError"},
		{"SELECT * FROM Customer MAXRESULTS ten", "4000", "QueryParserError"},
		{"SELECT * FROM Customer ORDERBY Id, SyncToken", "4000", "QueryParserError"},
		{"DELETE FROM Customer", "4000", "QueryParserError"},
		{"SELECT * FROM customer", "4001", "QueryValidationError: Metadata not found for Entity: customer"},
		{"SELECT * FROM TaxService", "4001", "QueryValidationError: Metadata not found for Entity: TaxService"},
		{"SELECT * FROM Fax", "4001", "Metadata not found for Entity: Fax"},
		{"SELECT * FROM Customer WHERE Shoe = '1'", "4001", "Property Shoe not found for Entity Customer"},
		{"SELECT * FROM Customer ORDERBY Shoe", "4001", "Property Shoe not found"},
		{"SELECT * FROM Invoice WHERE Active IN (true,false)", "4001", "Property Active not found for Entity Invoice"},
		{"SELECT * FROM Customer STARTPOSITION 0", "4001", "Min allowed value is 1"},
		{"SELECT * FROM Customer MAXRESULTS 0", "4001", "Min allowed value is 1"},
		{"SELECT * FROM Customer MAXRESULTS 1001", "4001", "Max allowed value is 1000"},
		{"SELECT * FROM Customer WHERE Id = 1", "4001", "Invalid value"},
		{"SELECT * FROM Customer WHERE Active = 'maybe'", "4001", "Invalid value"},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime > '2026-11-23T12:00:00 02:00'", "4001", "Invalid value"},
		{"SELECT * FROM Customer WHERE MetaData.LastUpdatedTime > 'now'", "4001", "Invalid value"},
	}
	for _, tt := range tests {
		t.Run(tt.statement, func(t *testing.T) {
			a := b.queryAnswer(tt.statement)
			require.Equal(t, 400, a.Status, "%s", a.Body)
			f := a.fault(t)
			require.Equal(t, tt.code, f.Code)
			require.Contains(t, f.Detail, tt.detail)
		})
	}
	require.Equal(t, "2020", b.queryAnswer("").fault(t).Code)
}

func TestQuery_PagesOf100UnlessAskedFor1000(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 1050 {
		b.create("JournalEntry", nil)
	}
	require.Len(t, b.query("SELECT * FROM JournalEntry"), 100)
	require.Len(t, b.query("SELECT * FROM JournalEntry MAXRESULTS 1000"), 1000)
	require.Equal(t, "1001", b.query("SELECT * FROM JournalEntry STARTPOSITION 1001 MAXRESULTS 1000")[0].ID)
	require.JSONEq(t, `{"totalCount":1050}`, field(t, b.queryAnswer("SELECT COUNT(*) FROM JournalEntry"), "QueryResponse"))
	require.JSONEq(t, `{}`, field(t, b.queryAnswer("SELECT * FROM JournalEntry STARTPOSITION 1051"), "QueryResponse"))
	page := b.queryAnswer("SELECT * FROM JournalEntry STARTPOSITION 1041 MAXRESULTS 20")
	require.Contains(t, string(page.Body), `"startPosition":1041,"maxResults":10}`)
}

func TestQuery_CountsWhatItWouldShow(t *testing.T) {
	t.Parallel()
	b := books(t)
	require.JSONEq(t, `{"totalCount":3}`, field(t, b.queryAnswer("SELECT COUNT(*) FROM Customer"), "QueryResponse"))
	require.JSONEq(t, `{"totalCount":4}`, field(t, b.queryAnswer("select count(*) from Customer where Active in (true, false)"), "QueryResponse"))
	require.JSONEq(t, `{"totalCount":0}`, field(t, b.queryAnswer("SELECT COUNT(*) FROM Invoice"), "QueryResponse"))
}

func TestQuery_UnescapesText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create("Customer", map[string]any{"DisplayName": `O'Neil \ Sons`})
	require.Len(t, b.query(`SELECT * FROM Customer WHERE DisplayName = 'O\'Neil \\ Sons'`), 1)
}

func TestQuery_TakesPOSTAndRefusesLongURLs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var quoted []string
	for range 900 {
		quoted = append(quoted, "'"+b.create("Item", nil).ID+"'")
	}
	statement := "SELECT * FROM Item WHERE Id IN (" + strings.Join(quoted, ",") + ") MAXRESULTS 1000"
	require.Equal(t, http.StatusRequestURITooLong, b.queryAnswer(statement).Status)

	post := func(contentType, body string) answer {
		req := b.request(http.MethodPost, "/v3/company/"+realm+"/query?minorversion=75", body)
		req.Header.Set("Content-Type", contentType)
		return b.do(req)
	}
	require.Contains(t, string(post("application/text", statement).Body), `"maxResults":900}`)
	require.Contains(t, string(post("application/text; charset=utf-8", statement).Body), `"maxResults":900}`)
	require.Equal(t, http.StatusUnsupportedMediaType, post("application/json", statement).Status)
	require.Equal(t, "4000", post("application/text", strings.Repeat("x", 70<<10)).fault(t).Code)
	require.Equal(t, "4000", post("application/text", "").fault(t).Code)
}

func FuzzQuery(f *testing.F) {
	for _, statement := range []string{
		"SELECT * FROM Customer", "SELECT COUNT(*) FROM Invoice WHERE Id IN ('1','2') ORDERBY Id DESC STARTPOSITION 1 MAXRESULTS 9",
		`SELECT * FROM Item WHERE Name LIKE '%a\'%' AND Active = true`, "SELECT * FROM Bill WHERE MetaData.LastUpdatedTime >= '2026-11-23T00:00:00-08:00'",
	} {
		f.Add(statement)
	}
	sim, token := served(f)
	f.Fuzz(func(t *testing.T, statement string) {
		if statement == "" {
			return
		}
		status := sim(http.MethodPost, "/v3/company/"+realm+"/query", token, statement)
		require.Contains(t, []int{200, 400}, status, "%q", statement)
	})
}
