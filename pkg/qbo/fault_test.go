package qbo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

var sentinels = []error{
	qbo.ErrUnauthorized, qbo.ErrForbidden, qbo.ErrThrottled, qbo.ErrNotFound, qbo.ErrInvalidQuery,
	qbo.ErrUnknownEntity, qbo.ErrPoison, qbo.ErrTooOld, qbo.ErrServer, qbo.ErrTooLong,
}

func meaning(err error) []error {
	var is []error
	for _, s := range sentinels {
		if errors.Is(err, s) {
			is = append(is, s)
		}
	}
	return is
}

func TestDecodeFault_RecordedBodies(t *testing.T) {
	header := http.Header{}
	header.Set("intuit_tid", "1-65f")
	for _, tt := range []struct {
		file   string
		status int
		want   qbo.Fault
		is     []error
	}{
		{file: "errors/lowercase_fault_3200_go_captured.json", status: 401, is: []error{qbo.ErrUnauthorized}, want: qbo.Fault{
			Type: "AUTHENTICATION", Errors: []qbo.FaultError{{
				Message: "message=AuthenticationFailed; errorCode=003200; statusCode=401", Detail: "Token expired: [REDACTED]", Code: "3200",
			}},
		}},
		{file: "errors/cdc_poison_record_4002.json", status: 400, is: []error{qbo.ErrPoison}, want: qbo.Fault{
			Type: "Service", Errors: []qbo.FaultError{{
				Message: "Error processing query", Detail: "QueryProcessingError: To email address entered is invalid", Code: "4002",
			}},
		}},
		{file: "errors/query_unknown_entity_4001.json", status: 400, is: []error{qbo.ErrInvalidQuery, qbo.ErrUnknownEntity}, want: qbo.Fault{
			Type: "ValidationFault", Errors: []qbo.FaultError{{
				Message: "Invalid query", Detail: "QueryValidationError: Metadata not found for Entity: TaxService", Code: "4001",
			}},
		}},
		{file: "errors/quickbooks-ruby_throttle_exceeded_error.xml", status: 403, is: []error{qbo.ErrThrottled}, want: qbo.Fault{
			Type: "SERVICE", Errors: []qbo.FaultError{{
				Message: "message=ThrottleExceeded; errorCode=003001; statusCode=403", Detail: "The request limit was reached. Try again later", Code: "3001",
			}},
		}},
		{file: "errors/fault_6240_typical.json", status: 400, want: qbo.Fault{
			Type: "ValidationFault", Errors: []qbo.FaultError{{
				Message: "Duplicate Name Exists Error", Detail: "The name supplied already exists. : null", Code: "6240",
			}},
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			f := qbo.DecodeFault(tt.status, header, read(t, tt.file))
			tt.want.Status, tt.want.TID = tt.status, "1-65f"
			require.Empty(t, cmp.Diff(&tt.want, f))
			require.Equal(t, tt.is, meaning(fmt.Errorf("wrapped: %w", f)))
			require.Contains(t, f.Error(), fmt.Sprint(tt.status))
			require.Contains(t, f.Error(), "1-65f")
			require.NotContains(t, f.Error(), "AB0173")
		})
	}
}

func TestFault_Means(t *testing.T) {
	fault := func(code, message, detail string) string {
		return fmt.Sprintf(`{"Fault":{"Error":[{"Message":%q,"Detail":%q,"code":%q}],"type":"x"}}`, message, detail, code)
	}
	for _, tt := range []struct {
		name      string
		status    int
		body      string
		want      []error
		temporary bool
	}{
		{name: "401 alone", status: 401, want: []error{qbo.ErrUnauthorized}},
		{name: "403 alone", status: 403, temporary: true},
		{name: "403 as a page", status: 403, body: "<html>", temporary: true},
		{name: "403 with a fault", status: 403, body: fault("5", "Forbidden", ""), want: []error{qbo.ErrForbidden}},
		{name: "3100 of the server", status: 500, body: fault("", "message=InternalServerError; errorCode=003100; statusCode=500", ""), want: []error{qbo.ErrServer}, temporary: true},
		{name: "Metadata not found", status: 400, body: fault("4001", "", "QueryValidationError: Metadata not found for Entity: X"), want: []error{qbo.ErrInvalidQuery, qbo.ErrUnknownEntity}},
		{name: "3100", status: 403, body: fault("3100", "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403", ""), want: []error{qbo.ErrForbidden}},
		{name: "3100 by message", status: 403, body: fault("", "message=ApplicationAuthorizationFailed; errorCode=003100", ""), want: []error{qbo.ErrForbidden}},
		{name: "429 alone", status: 429, want: []error{qbo.ErrThrottled}, temporary: true},
		{name: "429 as a page", status: 429, body: "<html>slow down</html>", want: []error{qbo.ErrThrottled}, temporary: true},
		{name: "3001 with 403", status: 403, body: fault("003001", "", ""), want: []error{qbo.ErrThrottled}, temporary: true},
		{name: "code as a number", status: 400, body: `{"fault":{"error":{"code":610}}}`, want: []error{qbo.ErrNotFound}},
		{name: "4000", status: 400, body: fault("4000", "Error parsing query", "QueryParserError: x"), want: []error{qbo.ErrInvalidQuery}},
		{name: "4001", status: 400, body: fault("4001", "", ""), want: []error{qbo.ErrInvalidQuery}},
		{name: "4002 with a 500", status: 500, body: fault("4002", "", ""), want: []error{qbo.ErrPoison, qbo.ErrServer}},
		{name: "an inactive reference", status: 500, body: fault("10000", "An application error has occurred", "System Failure Error: Something you're trying to use has been made inactive. Check the fields"), want: []error{qbo.ErrPoison, qbo.ErrServer}},
		{name: "older than CDC reaches", status: 400, body: fault("5000", "x", "Operation cdc with changedSince date 2019-01-01 which is older than fixed days is not supported."), want: []error{qbo.ErrTooOld}},
		{name: "10000", status: 400, body: fault("10000", "An application error has occurred while processing your request", ""), want: []error{qbo.ErrServer}, temporary: true},
		{name: "503", status: 503, body: "upstream", want: []error{qbo.ErrServer}, temporary: true},
		{name: "504 without a body", status: 504, want: []error{qbo.ErrServer}, temporary: true},
		{name: "408", status: 408, temporary: true},
		{name: "414", status: 414, want: []error{qbo.ErrTooLong}},
		{name: "413", status: 413, want: []error{qbo.ErrTooLong}},
		{name: "too long by text", status: 400, body: fault("4000", "Query is too long", ""), want: []error{qbo.ErrInvalidQuery, qbo.ErrTooLong}},
		{name: "404 as a page", status: 404, body: "<html>", temporary: true},
		{name: "a redirect", status: 302, temporary: true},
		{name: "400 alone", status: 400, temporary: true},
		{name: "a page that speaks like a fault", status: 400, body: "<html>Metadata not found. The request is too long.</html>", temporary: true},
		{name: "XML in another charset", status: 400, body: "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><IntuitResponse><Fault type=\"x\"><Error code=\"3100\"><Message>Acc\xe8s</Message></Error></Fault></IntuitResponse>", want: []error{qbo.ErrForbidden}},
		{name: "XML that is no fault", status: 500, body: "<a><b/></a>", want: []error{qbo.ErrServer}, temporary: true},
		{name: "broken JSON", status: 500, body: `{"Fault":{"Error":[`, want: []error{qbo.ErrServer}, temporary: true},
		{name: "fault is null", status: 500, body: `{"Fault":null}`, want: []error{qbo.ErrServer}, temporary: true},
		{name: "error is a string", status: 400, body: `{"Fault":{"Error":"x","type":"t"}}`, temporary: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := qbo.DecodeFault(tt.status, nil, []byte(tt.body))
			require.Equal(t, tt.status, f.Status)
			require.Equal(t, tt.want, meaning(f))
			require.Equal(t, tt.temporary, qbo.Temporary(fmt.Errorf("wrapped: %w", f)))
		})
	}
}

func TestDecodeFault_KeepsTenErrors(t *testing.T) {
	one := `{"Message":"m","Detail":"d","code":"0"}`
	f := qbo.DecodeFault(400, nil, []byte(`{"Fault":{"Error":[`+strings.TrimSuffix(strings.Repeat(one+",", 11), ",")+`]}}`))
	require.Len(t, f.Errors, 10)
	require.Equal(t, qbo.FaultError{Message: "m", Detail: "d", Code: "0"}, f.Errors[0])
}

func TestDecodeFault_UnreadableBodySaysWhatItWas(t *testing.T) {
	f := qbo.DecodeFault(502, http.Header{"Content-Type": {"text/html"}}, []byte("<html>Bad Gateway</html>"))
	require.Equal(t, "quickbooks answered 502: no fault in the body (text/html, 24 bytes): Bad Gateway", f.Error())
	// Intuit's support asks for this id: it is as long as a token and must be shown.
	f = qbo.DecodeFault(502, http.Header{"Intuit-T-Id": {"9cf50b60-8b0e-4fea-8327-e6a66099fe6f"}}, nil)
	require.Equal(t, "quickbooks answered 502 (intuit_tid 9cf50b60-8b0e-4fea-8327-e6a66099fe6f)", f.Error())
	require.Equal(t, "quickbooks answered 502", qbo.DecodeFault(502, nil, nil).Error())
}

func TestDecodeFault_ShowsNoToken(t *testing.T) {
	const jwe = "eyJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoiZGlyIn0..8GgPNQ-2xVYc.u1tPCTBkEpsQX0f3sZ9m"
	for _, detail := range []string{
		"Token expired: AB01730024136mqEofYN9flz", "Token revoked: short", "token=short", "access_token: \"short\"",
		"invalid " + jwe, "Token " + jwe + " is invalid", "line\nToken expired: short\r\n",
	} {
		body := fmt.Sprintf(`{"Fault":{"Error":[{"Message":%q,"Detail":%q,"code":"3200"}],"type":%q}}`, detail, detail, jwe)
		f := qbo.DecodeFault(401, http.Header{"Intuit_tid": {jwe}, "Content-Type": {jwe}}, []byte(body))
		for _, shown := range []string{f.Error(), fmt.Sprintf("%+v", *f)} {
			require.NotContains(t, shown, "short", detail)
			require.NotContains(t, shown, "AB0173", detail)
			require.NotContains(t, shown, "eyJ", detail)
			require.NotContains(t, shown, "\n")
		}
		require.Contains(t, f.Error(), "[REDACTED]")
	}
}

// What an operator needs stays: which right, which path, which class.
func TestDecodeFault_ShowsWhatHelps(t *testing.T) {
	for _, text := range []string{
		"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403",
		"message=ApplicationAuthenticationFailed; errorCode=003200; statusCode=401",
		"Malformed bearer token: too short or too long",
		"Operation Could not find resource for relative : /v3/company/193514733709249/v3/query of full path: https://sandbox.qbo.intuit.com/qbo51/v3/company/193514733709249/v3/query is not supported.",
		"com.intuit.qbo.rest.v3.exception.QBOServiceException: system failure",
		"java.lang.NullPointerException at com.intuit.sb.cdm.qbo.v3.rest.CompanyResource",
	} {
		for _, body := range []string{
			fmt.Sprintf(`{"Fault":{"Error":[{"Message":"m","Detail":%q,"code":"1"}],"type":"x"}}`, text),
			fmt.Sprintf(`{"code":"007001","type":"x","message":%q,"detail":"","moreInfo":""}`, text), // a gateway's
		} {
			require.Contains(t, qbo.DecodeFault(403, nil, []byte(body)).Error(), text)
		}
	}
}

// A base URL that is wrong shows in what the gateway sends in place of a fault.
func TestDecodeFault_ShowsWhatAPageSays(t *testing.T) {
	page := `<!DOCTYPE HTML><html><head><style>p{color:red}</style><title>404 Not Found</title></head><body>
		<p>The requested URL /v3/company/v3/company/123145730732229/query was not found &amp; nothing else.</p>` + strings.Repeat("<p>more</p>", 100)
	require.Equal(t, "quickbooks answered 404: no fault in the body (text/html, 1301 bytes): "+
		"404 Not Found The requested URL /v3/company/v3/company/123145730732229/query was not found & nothing else."+strings.Repeat(" more", 18)+" mor…",
		qbo.DecodeFault(404, http.Header{"Content-Type": {"text/html"}}, []byte(page)).Error())
	to := http.Header{"Location": {"https://accounts.intuit.com/app/sign-in?state=secret"}}
	require.Equal(t, "quickbooks answered 302: no fault in the body, redirects to https://accounts.intuit.com/app/sign-in", qbo.DecodeFault(302, to, nil).Error())
	require.Equal(t, "quickbooks answered 404", qbo.DecodeFault(404, to, nil).Error())
}

// A token stays hidden wherever Intuit repeats it, in any of the forms that tokens,
// codes and secrets have.
func TestDecodeFault_HidesATokenAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := drawToken(t)
		before := rapid.SampledFrom([]string{
			"", "Token expired: ", "token=", "Bearer ", "at /v3/company/193514733709249/", "message=Failed", "(", "x/",
			"com.intuit.qbo.", "code=", "https://host.intuit.com/v3?refresh_token=", "token: too ", "é",
		}).Draw(t, "before")
		after := rapid.SampledFrom([]string{"", " is not valid", "/query", "; statusCode=401", ".", ")", " or too long"}).Draw(t, "after")
		text := before + token + after
		body := rapid.SampledFrom([]string{
			fmt.Sprintf(`{"Fault":{"Error":[{"Message":%q,"Detail":%q,"code":%q,"element":%q}],"type":%q}}`, text, text, text, text, text),
			fmt.Sprintf(`{"fault":{"error":{"message":%q,"detail":%q,"code":%q}}}`, text, text, text),
			fmt.Sprintf(`<IntuitResponse><Fault type=%q><Error code=%q element=%q><Message>%s</Message><Detail>%s</Detail></Error></Fault></IntuitResponse>`, text, text, text, text, text),
			fmt.Sprintf(`{"code":%q,"type":%q,"message":%q,"detail":%q,"moreInfo":%q}`, text, text, text, text, text),
			"<html>" + text,
		}).Draw(t, "body")
		f := qbo.DecodeFault(400, http.Header{"Content-Type": {text}, "Intuit_tid": {"x" + text}}, []byte(body))
		shown := f.Error() + fmt.Sprintf("%+v", *f)
		for i := 0; i+12 <= len(token); i++ {
			if strings.Contains(shown, token[i:i+12]) {
				t.Fatalf("%q of the token is shown: %s", token[i:i+12], shown)
			}
		}
	})
}

// drawToken makes a text like an access token (JWE), a refresh token or code, a client
// secret, or one of hex digits.
func drawToken(t *rapid.T) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	random := func(alphabet string, least, most int) string {
		return rapid.StringOfN(rapid.SampledFrom([]rune(alphabet)), least, most, -1).Draw(t, "random")
	}
	base64 := letters + "0123456789-_"
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return "eyJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoiZGlyIn0.." + random(base64, 22, 22) + "." + random(base64, 100, 300) + "." + random(base64, 22, 22)
	case 1:
		return "AB117" + random(letters+"0123456789", 45, 45)
	case 2:
		return "9x7Q" + random(letters+"0123456789+/", 40, 60) + "="
	}
	return "0a" + random("0123456789abcdef", 38, 62)
}

func TestDecodeFault_IsBounded(t *testing.T) {
	one := `{"Message":"` + strings.Repeat("long ", 10_000) + `","Detail":"` + strings.Repeat("é ", 10_000) + `","code":"1"}`
	f := qbo.DecodeFault(400, nil, []byte(`{"Fault":{"Error":[`+strings.TrimSuffix(strings.Repeat(one+",", 10), ",")+`]}}`))
	require.NotEmpty(t, f.Errors)
	require.LessOrEqual(t, len(f.Errors), 10)
	for _, e := range f.Errors {
		require.LessOrEqual(t, len(e.Message), 1024)
		require.LessOrEqual(t, len(e.Detail), 1024)
	}
	f = qbo.DecodeFault(400, nil, []byte(`{"Fault":{"Error":[{"Message":"`+strings.Repeat("x ", 1<<20)+`"}]}}`))
	require.Contains(t, f.Error(), "no fault in the body")
}

func TestDecodeFault_RetryAfter(t *testing.T) {
	const date = "Thu, 01 Jan 2026 00:00:00 GMT"
	for _, tt := range []struct {
		value string
		date  string
		want  time.Duration
	}{
		{value: "", want: 0},
		{value: "30", want: 30 * time.Second},
		{value: " 7 ", want: 7 * time.Second},
		{value: "-5", want: 0},
		{value: "1.5", want: 0},
		{value: "soon", want: 0},
		{value: "999999999", want: 24 * time.Hour},
		{value: "99999999999999999999", want: 0},
		{value: "Thu, 01 Jan 2026 00:01:30 GMT", date: date, want: 90 * time.Second},
		{value: "Wed, 31 Dec 2025 23:00:00 GMT", date: date, want: 0},
		{value: "Thu, 01 Jan 2026 00:01:30 GMT", want: 0},
	} {
		h := http.Header{}
		h.Set("Retry-After", tt.value)
		h.Set("Date", tt.date)
		require.Equal(t, tt.want, qbo.DecodeFault(429, h, nil).RetryAfter, tt.value)
	}
}

func TestTemporary_OfOtherErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{name: "nil"},
		{name: "any error", err: errors.New("x")},
		{name: "cancelled", err: context.Canceled},
		{name: "deadline", err: fmt.Errorf("x: %w", context.DeadlineExceeded), want: true},
		{name: "dial", err: &net.OpError{Op: "dial", Err: errors.New("refused")}, want: true},
		{name: "malformed", err: fmt.Errorf("%w: x", qbo.ErrMalformed), want: true},
		{name: "too large", err: qbo.ErrTooLarge},
		{name: "end of file", err: io.EOF},
		{name: "invalid grant", err: &qbo.OAuthError{Status: 400, Code: "invalid_grant"}},
		{name: "a gateway before the token endpoint", err: &qbo.OAuthError{Status: 403}, want: true},
		{name: "token endpoint is down", err: &qbo.OAuthError{Status: 503}, want: true},
		{name: "token endpoint throttles", err: &qbo.OAuthError{Status: 429}, want: true},
	} {
		require.Equal(t, tt.want, qbo.Temporary(tt.err), tt.name)
	}
}
