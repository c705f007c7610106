package qbo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Each recorded response, sent by a server and read by the real client, matches its own
// row of the table.
func TestResponses_EachRowMeansWhatItSays(t *testing.T) {
	names := map[string]bool{}
	for _, row := range qbo.Responses() {
		t.Run(row.Name, func(t *testing.T) {
			require.False(t, names[row.Name], "the name is not unique")
			names[row.Name] = true
			require.NotEmpty(t, row.Recorded.Source)
			for call, err := range respond(t, row) {
				require.Equal(t, row.Name, qbo.ResponseOf(err).Name, "%s: %v", call, err)
				require.Equal(t, row.Meaning, qbo.MeaningOf(wrap(err)), call)
				require.Equal(t, row.Access, qbo.AccessOf(err), call)
				require.Equal(t, row.Meaning == qbo.MeaningCompanyAccess, row.Access != "")
				temporary := row.Meaning == qbo.MeaningThrottled || row.Meaning == qbo.MeaningTransient || row.Meaning == qbo.MeaningMalformed
				require.Equal(t, temporary, qbo.Temporary(err), call)
			}
		})
	}
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("wrapped: %w", err)
}

// respond are the errors of the calls that the row's response can answer.
func respond(t *testing.T, row qbo.Response) map[string]error {
	t.Helper()
	recorded := answer(row.Recorded.Status, row.Recorded.ContentType, []byte(row.Recorded.Body))
	ctx := t.Context()
	if row.From == "token" || row.From == "revoke" {
		server := httptest.NewServer(recorded)
		defer server.Close()
		oauth, err := qbo.NewOAuth(qbo.OAuthOptions{ClientID: "id", ClientSecret: "hush", TokenURL: server.URL, RevokeURL: server.URL})
		require.NoError(t, err)
		if row.From == "revoke" {
			return map[string]error{"revoke": oauth.Revoke(ctx, "refresh")}
		}
		_, refresh := oauth.Refresh(ctx, "refresh")
		_, exchange := oauth.Exchange(ctx, "code", "")
		return map[string]error{"refresh": refresh, "exchange": exchange}
	}
	b := setup(t, recorded)
	b.tokens.list = []secret.String{"access-1", "access-2", "access-3", "access-4", "access-5"}
	_, query := b.client.Query(ctx, "1", "SELECT * FROM Invoice")
	_, count := b.client.Query(ctx, "1", "SELECT COUNT(*) FROM Invoice")
	if row.Meaning == qbo.MeaningOK {
		return map[string]error{"query": query, "count": count} // what is a result depends on the call
	}
	_, cdc := b.client.CDC(ctx, "1", []string{"Invoice", "Bill"}, time.Unix(1e9, 0))
	_, _, read := b.client.Read(ctx, "1", "Invoice", "1")
	return map[string]error{"query": query, "count": count, "cdc": cdc, "read": read}
}

// The table says of each meaning at least once how it looks.
func TestResponses_CoverEveryMeaning(t *testing.T) {
	rows := map[qbo.Meaning]int{}
	for _, row := range qbo.Responses() {
		rows[row.Meaning]++
	}
	for m := qbo.MeaningOK; m <= qbo.MeaningRequest; m++ {
		require.Positive(t, rows[m], m)
		require.NotContains(t, m.String(), "meaning ")
	}
	require.Equal(t, "meaning 200", qbo.Meaning(200).String())
}

func TestMeaningOf_OtherErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want qbo.Meaning
	}{
		{name: "nil", want: qbo.MeaningOK},
		{name: "no response", err: context.DeadlineExceeded, want: qbo.MeaningTransient},
		{name: "of a limiter", err: errors.New("x"), want: qbo.MeaningTransient},
		{name: "too large", err: fmt.Errorf("%w: x", qbo.ErrTooLarge), want: qbo.MeaningRequest},
		{name: "malformed", err: fmt.Errorf("%w: x", qbo.ErrMalformed), want: qbo.MeaningMalformed},
		{name: "the token of a call", err: fmt.Errorf("query: token: %w", &qbo.OAuthError{Status: 401, Code: "invalid_client"}), want: qbo.MeaningAppProblem},
		{name: "a gateway in place of the token endpoint", err: &qbo.OAuthError{Status: 403}, want: qbo.MeaningTransient},
		{name: "client id in other words", err: &qbo.OAuthError{Status: 400, Code: "invalid_grant", Description: "Incorrect Client ID"}, want: qbo.MeaningAppProblem},
		{name: "invalid_client in a 400", err: &qbo.OAuthError{Status: 400, Code: "invalid_client"}, want: qbo.MeaningAppProblem},
		{name: "invalid_grant in a 500", err: &qbo.OAuthError{Status: 500, Code: "invalid_grant"}, want: qbo.MeaningTransient},
	} {
		require.Equal(t, tt.want, qbo.MeaningOf(tt.err), tt.name)
	}
}

// No status and code is without a meaning, and none of a gateway is a refusal for good.
func TestMeaningOf_EveryStatus(t *testing.T) {
	for status := 100; status < 700; status++ {
		for _, code := range []string{"", "0", "100", "120", "130", "500", "610", "3001", "3100", "3200", "4000", "4001", "4002", "5020", "6000", "6190", "10000"} {
			body := ""
			if code != "" {
				body = fmt.Sprintf(`{"Fault":{"Error":[{"Message":"m","Detail":"d","code":%q}],"type":"x"}}`, code)
			}
			f := qbo.DecodeFault(status, nil, []byte(body))
			require.NotEmpty(t, qbo.ResponseOf(f).Name)
			silent := code == "" && status >= 300 && status < 500
			if silent && status != 401 && status != 429 && status != 413 && status != 414 && status != 431 {
				require.Equal(t, qbo.MeaningTransient, qbo.MeaningOf(f), status)
			}
		}
	}
}

// One response of a failing server is not enough to leave an entity out for a week.
func TestMeaningOf_AServerFaultNamesNoEntity(t *testing.T) {
	for _, code := range []string{"5020", "5030"} {
		body := []byte(fmt.Sprintf(`{"Fault":{"Error":[{"Message":"m","Detail":"d","code":%q}],"type":"x"}}`, code))
		require.Equal(t, qbo.MeaningTransient, qbo.MeaningOf(qbo.DecodeFault(500, nil, body)))
		require.Equal(t, qbo.MeaningEntityUnavailable, qbo.MeaningOf(qbo.DecodeFault(403, nil, body)))
	}
}

// A lost right is no reason to ask for another token. Each other 401 is told to the source
// of tokens, which bounds the refreshes and holds calls back where they do not help.
func TestClient_TellsOfRefusedTokens(t *testing.T) {
	for _, row := range qbo.Responses() {
		if row.Recorded.Status != http.StatusUnauthorized || row.From == "token" {
			continue
		}
		b := setup(t, answer(row.Recorded.Status, row.Recorded.ContentType, []byte(row.Recorded.Body)))
		_, err := b.client.Query(t.Context(), "1", "SELECT * FROM Invoice")
		require.ErrorIs(t, err, qbo.ErrUnauthorized)
		require.Equal(t, row.Meaning != qbo.MeaningCompanyAccess, len(b.tokens.rejected) > 0, row.Name)
	}
}

func TestDecode_AFaultInXMLIsAFault(t *testing.T) {
	body := []byte(`<IntuitResponse xmlns="http://schema.intuit.com/finance/v3"><Fault type="ValidationFault"><Error code="6190"><Message>Invalid Company Status</Message></Error></Fault></IntuitResponse>`)
	_, query := qbo.DecodeQuery(body)
	_, cdc := qbo.DecodeCDC(append([]byte("\xef\xbb\xbf\n"), body...))
	for _, err := range []error{query, cdc} {
		var f *qbo.Fault
		require.ErrorAs(t, err, &f)
		require.Equal(t, 200, f.Status)
		require.Equal(t, qbo.MeaningCompanyAccess, qbo.MeaningOf(err))
	}
	_, page := qbo.DecodeQuery([]byte("<html><body>back soon</body></html>"))
	require.ErrorIs(t, page, qbo.ErrMalformed)
	_, large := qbo.DecodeQuery([]byte("<a>" + strings.Repeat("x", 2<<20)))
	require.ErrorIs(t, large, qbo.ErrMalformed)
}

func TestResponses_IsACopy(t *testing.T) {
	first := qbo.Responses()
	first[0].Name = "changed"
	require.NotEqual(t, "changed", qbo.Responses()[0].Name)
}
