package qbo

import (
	"slices"
	"strconv"
	"strings"
)

// Response is one row of the table of responses: how it is recognised, what it
// means, and the recorded response it was made for. The first row that matches
// decides; an empty field of the condition matches everything.
type Response struct {
	Name string

	// The condition.
	From   string   // "api" (also if empty), "token" or "revoke"
	Status []string // any of: "401", or a class such as "4xx"
	Code   []string // any of, without leading zeros
	Says   []string // any of, lower case, in a message or detail of a fault
	Body   string   // "result", "fault", "no fault" or "malformed"

	Meaning Meaning
	Access  Access // with MeaningCompanyAccess

	Recorded Recorded
}

// Recorded is a response as somebody saw it. Where the source quotes an error without
// what is around it, that is as documented.
type Recorded struct {
	Status      int
	ContentType string
	Body        string
	Source      string // a public issue (owner/repository#number) or page
}

// Responses are the rows of the table, in order.
func Responses() []Response { return slices.Clone(responses) }

func (row Response) matches(r reply) bool {
	from := row.From
	if from == "" {
		from = fromAPI
	}
	return from == r.from &&
		(row.Body == r.body || row.Body == "" && (len(row.Says) == 0 || r.body == bodyFault)) &&
		anyOf(row.Status, func(s string) bool { return statusIs(s, r.status) }) &&
		anyOf(row.Code, func(s string) bool { return slices.Contains(r.codes, s) }) &&
		anyOf(row.Says, func(s string) bool { return strings.Contains(r.text, s) })
}

func anyOf(list []string, is func(string) bool) bool {
	return len(list) == 0 || slices.ContainsFunc(list, is)
}

func statusIs(pattern string, status int) bool {
	if class, ok := strings.CutSuffix(pattern, "xx"); ok {
		return strconv.Itoa(status/100) == class
	}
	return strconv.Itoa(status) == pattern
}

const (
	typeJSON = "application/json;charset=UTF-8"
	typeXML  = "application/xml;charset=UTF-8"
	typeHTML = "text/html"
)

// responses is the table. A new recorded response is a new row, before the rows
// that are less specific; TestResponses_EachRowMeansWhatItSays covers it.
var responses = []Response{
	{Name: "result", Body: bodyOK, Meaning: MeaningOK,
		Recorded: Recorded{200, typeJSON, `{"QueryResponse":{},"time":"2026-01-01T00:00:00.000-08:00"}`, "Intuit: query operations"}},

	// The request.
	{Name: "throttled", Code: []string{"3001"}, Meaning: MeaningThrottled,
		Recorded: Recorded{403, typeXML, `<IntuitResponse time="2016-10-27T15:07:56.120-07:00" xmlns="http://schema.intuit.com/finance/v3"><Fault type="SERVICE"><Error code="3001"><Message>message=ThrottleExceeded; errorCode=003001; statusCode=403</Message><Detail>The request limit was reached.  Try again later</Detail></Error></Fault></IntuitResponse>`, "ruckus/quickbooks-ruby spec/fixtures"}},
	{Name: "throttled by status", Status: []string{"429"}, Meaning: MeaningThrottled,
		Recorded: Recorded{429, typeHTML, "<html><head><title>429 Too Many Requests</title></head></html>", "Intuit: limits and throttles"}},
	{Name: "no such record", Code: []string{"610"}, Meaning: MeaningNotFound,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Object Not Found","Detail":"Object Not Found : Something you're trying to use has been made inactive. Check the fields with accounts, customers, items, vendors or employees.","code":"610","element":""}],"type":"ValidationFault"},"time":"2015-12-03T12:09:32.512-08:00"}`, "Intuit: error codes"}},
	{Name: "changedSince too old", Says: []string{"which is older than"}, Meaning: MeaningRequest,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Unsupported Operation","Detail":"Operation cdc with changedSince date 2019-01-01 which is older than fixed days is not supported.","code":"500"}],"type":"ValidationFault"}}`, "Intuit: change data capture"}},
	{Name: "request too long", Status: []string{"413", "414", "431"}, Meaning: MeaningRequest,
		Recorded: Recorded{414, typeHTML, "<html><head><title>414 Request-URI Too Large</title></head></html>", "RFC 9110"}},
	{Name: "query too long", Status: []string{"400"}, Says: []string{"too long"}, Meaning: MeaningRequest,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Error parsing query","Detail":"QueryParserError: Query is too long","code":"4000"}],"type":"ValidationFault"}}`, "Intuit: query operations"}},

	// One record.
	{Name: "inactive reference", Code: []string{"10000"}, Says: []string{"has been made inactive"}, Meaning: MeaningPoison,
		Recorded: Recorded{500, typeJSON, `{"Fault":{"Error":[{"Message":"An application error has occurred while processing your request","Detail":"System Failure Error: Something you're trying to use has been made inactive. Check the fields with accounts, customers, items, vendors or employees.","code":"10000"}],"type":"SystemFault"}}`, "intuit/QuickBooks-V3-PHP-SDK#127"}},
	{Name: "record cannot be processed", Code: []string{"4002"}, Meaning: MeaningPoison,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Error processing query","Detail":"QueryProcessingError: To email address entered is invalid","code":"4002"}],"type":"Service"},"time":"2019-03-06T01:17:20.232-08:00"}`, "intuit/QuickBooks-V3-Java-SDK#47"}},

	// The server.
	{Name: "server fault with the code of a lost right", Status: []string{"5xx"}, Code: []string{"3100"}, Meaning: MeaningTransient,
		Recorded: Recorded{500, typeJSON, `{"warnings":null,"intuitObject":null,"fault":{"error":[{"message":"message=InternalServerError; errorCode=003100; statusCode=500","detail":null,"code":"3100","element":null}],"type":"SERVICE"},"report":null,"queryResponse":null,"batchItemResponse":[],"attachableResponse":[],"syncErrorResponse":null,"requestId":null,"time":1519164488680,"status":null,"cdcresponse":[]}`, "routablehq/python-quickbooks#106"}},
	{Name: "no resource for the path", Says: []string{"could not find resource for relative"}, Meaning: MeaningTransient,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Unsupported Operation","Detail":"Operation Could not find resource for relative : /v3/company/193514733709249/customer of full path: https://sandbox.qbo.intuit.com/qbo51/v3/company/193514733709249/customer is not supported.","code":"500"}],"type":"ValidationFault"}}`, "minimul/qbo_api#79"}},
	{Name: "no destination", Says: []string{"no destination found for"}, Meaning: MeaningTransient,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"message=No destination found for given partition key; errorCode=007001; statusCode=400","Detail":"","code":"7001"}],"type":"SERVICE"}}`, "ruckus/quickeebooks#40"}},
	{Name: "wait a few minutes", Code: []string{"6000"}, Says: []string{"wait a few minutes"}, Meaning: MeaningTransient,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"A business validation error has occurred while processing your request","Detail":"Business Validation Error: An unexpected error occurred while accessing or saving your data. Please wait a few minutes and try again.","code":"6000"}],"type":"ValidationFault"}}`, "ruckus/quickbooks-ruby#344"}},
	{Name: "internal error -30000", Code: []string{"6000"}, Says: []string{"(-30000)"}, Meaning: MeaningTransient,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"A business validation error has occurred while processing your request","Detail":"Business Validation Error: Unexpected Internal Error. (-30000)","code":"6000","element":""}],"type":"ValidationFault"}}`, "mcohen01/node-quickbooks#48"}},

	// The company.
	{Name: "person lost the right", Status: []string{"4xx", "200"}, Code: []string{"120"}, Meaning: MeaningCompanyAccess, Access: AccessRights,
		Recorded: Recorded{401, typeXML, `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2015-05-11T07:18:31.346-07:00"><Fault type="AuthorizationFault"><Error code="120"><Message>Authorization Failure</Message><Detail>AuthorizationFailure: -11014-You do not have access to use QuickBooks Online Plus. , statusCode: 401</Detail></Error></Fault></IntuitResponse>`, "gist minimul/2985d1b6"}},
	{Name: "subscription ended, status 200", Status: []string{"200"}, Code: []string{"6190"}, Meaning: MeaningCompanyAccess, Access: AccessSubscription,
		Recorded: Recorded{200, typeXML, `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2019-03-15T04:11:26.000-07:00"><Fault type="ValidationFault"><Error code="6190"><Message>Invalid Company Status</Message><Detail>Subscription period has ended or cancelled or there was a billing problem : You can't add data to QuickBooks Online Plus because your trial or subscription period ended, you cancelled your subscription, or there was a billing problem. To update your subscription, click the gear icon and view your account information.</Detail></Error></Fault></IntuitResponse>`, "intuit/QuickBooks-V3-PHP-SDK#211"}},
	{Name: "subscription ended", Code: []string{"6190"}, Meaning: MeaningCompanyAccess, Access: AccessSubscription,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Invalid Company Status","Detail":"Subscription period has ended or cancelled or there was a billing problem : You can't add data to QuickBooks Online Plus because your trial or subscription period ended, you cancelled your subscription, or there was a billing problem. To update your subscription, click the gear icon and view your account information.","code":"6190"}],"type":"ValidationFault"}}`, "Intuit: blog of 2017-06-08"}},
	{Name: "app not authorized for the company", Status: []string{"4xx", "200"}, Code: []string{"3100"}, Meaning: MeaningCompanyAccess, Access: AccessEnvironment,
		Recorded: Recorded{403, typeJSON, `{"fault":{"error":[{"message":"message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403","detail":null,"code":"3100","element":null}],"type":"SERVICE"}}`, "minimul/qbo_api#138"}},

	// One entity.
	{Name: "feature switched off", Status: []string{"4xx", "200"}, Code: []string{"5030"}, Meaning: MeaningEntityUnavailable,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Feature Not Supported Error","Detail":"Feature Not Supported Error","code":"5030"}],"type":"ValidationFault"}}`, "Intuit: error codes"}},
	{Name: "feature not in the edition", Status: []string{"4xx", "200"}, Code: []string{"5020"}, Meaning: MeaningEntityUnavailable,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Permission Denied Error","Detail":"Permission Denied Error : You issued a request against a feature for which your product is not entitled.","code":"5020"}],"type":"ValidationFault"}}`, "intuit/oauth-jsclient#89"}},
	{Name: "property not queryable", Code: []string{"4001"}, Says: []string{"not queryable"}, Meaning: MeaningFilterUnsupported,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Invalid query","Detail":"QueryValidationError: property 'MetaData.LastUpdatedTime' is not queryable","code":"4001"}],"type":"ValidationFault"}}`, "ruckus/quickbooks-ruby#403"}},
	{Name: "no such entity", Says: []string{"metadata not found"}, Meaning: MeaningEntityUnavailable,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Invalid query","Detail":"QueryValidationError: Metadata not found for Entity: TaxService","code":"4001"}],"type":"ValidationFault"}}`, "ruckus/quickbooks-ruby#628"}},
	{Name: "invalid query", Code: []string{"4000", "4001"}, Meaning: MeaningRequest,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Error parsing query","Detail":"QueryParserError: Encountered \" <STRING> \"","code":"4000"}],"type":"ValidationFault"}}`, "Intuit: error codes"}},

	// The token.
	{Name: "wrong cluster", Status: []string{"401"}, Code: []string{"130"}, Meaning: MeaningTransient,
		Recorded: Recorded{401, typeXML, `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2024-11-21T08:19:06.093-08:00"><Fault type="AuthenticationFault"><Error code="130"><Message>Accessing Wrong Cluster</Message><Detail>WrongClusterError: -11017-You have accessed the wrong server.  You will now be redirected. , statusCode: 401</Detail></Error></Fault></IntuitResponse>`, "routablehq/python-quickbooks#369"}},
	{Name: "authentication failure of a good token", Status: []string{"401"}, Code: []string{"100"}, Meaning: MeaningTransient,
		Recorded: Recorded{401, typeXML, `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2018-08-20T02:23:36.095-07:00"><Fault type="AuthenticationFault"><Error code="100"><Message>General Authentication Error</Message><Detail>AuthenticationErrorGeneral: SRV-110-Authentication Failure , statusCode: 401</Detail></Error></Fault></IntuitResponse>`, "routablehq/python-quickbooks#120"}},
	{Name: "token expired", Code: []string{"3200"}, Meaning: MeaningTokenProblem,
		Recorded: Recorded{401, typeJSON, `{"warnings":null,"intuitObject":null,"fault":{"error":[{"message":"message=AuthenticationFailed; errorCode=003200; statusCode=401","detail":"Malformed bearer token: too short or too long","code":"3200","element":null}],"type":"AUTHENTICATION"},"report":null,"queryResponse":null,"batchItemResponse":[],"attachableResponse":[],"syncErrorResponse":null,"requestId":null,"time":1633520295688,"status":null,"cdcresponse":[]}`, "routablehq/python-quickbooks#250"}},
	{Name: "token refused by status", Status: []string{"401"}, Meaning: MeaningTokenProblem,
		Recorded: Recorded{401, typeJSON, "", "RFC 6750"}},

	// What is left, by status.
	{Name: "system error", Code: []string{"10000"}, Meaning: MeaningTransient,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"An application error has occurred while processing your request","Detail":"System Failure Error","code":"10000"}],"type":"SystemFault"}}`, "Intuit: error codes"}},
	{Name: "server fault in place of authentication", Status: []string{"5xx"}, Code: []string{"120"}, Meaning: MeaningTransient,
		Recorded: Recorded{500, typeXML, `<IntuitResponse xmlns="http://schema.intuit.com/finance/v3"><Fault type="AuthorizationFault"><Error code="120"><Message>Authorization Failure</Message><Detail>AuthorizationFailure: Unknown Error during Authentication, statusCode: 500</Detail></Error></Fault></IntuitResponse>`, "minimul/qbo_api#96"}},
	{Name: "server error", Status: []string{"5xx", "408"}, Meaning: MeaningTransient,
		Recorded: Recorded{503, typeHTML, "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body bgcolor=\"white\">\r\n<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr><center>Avi Vantage/</center>\r\n</body>\r\n</html>\r\n", "minimul/qbo_api#81"}},
	{Name: "gateway redirect", Status: []string{"3xx"}, Body: bodyNoFault, Meaning: MeaningTransient,
		Recorded: Recorded{302, typeHTML, "", "intuitdeveloper.github.io/intuit-api/docs/faq/error-handling"}},
	{Name: "gateway routing error", Status: []string{"403"}, Body: bodyNoFault, Says: []string{"routing error"}, Meaning: MeaningTransient,
		Recorded: Recorded{403, typeJSON, `{"code":"AuthorizationFault","type":"INPUT","message":"Resource not found: routing error","detail":"","moreInfo":""}`, "intuitdeveloper.github.io/intuit-api/docs/faq/error-handling"}},
	{Name: "gateway", Status: []string{"3xx", "4xx"}, Body: bodyNoFault, Meaning: MeaningTransient,
		Recorded: Recorded{404, typeHTML, "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>\n<p>The requested URL /v3/company/123145730732229/batch was not found on this server.</p>\n</body></html>\n", "ruckus/quickbooks-ruby#363"}},
	{Name: "refused by status", Status: []string{"403"}, Meaning: MeaningCompanyAccess, Access: AccessRights,
		Recorded: Recorded{403, typeJSON, `{"Fault":{"Error":[{"Message":"Forbidden","Detail":"","code":"403"}],"type":"SERVICE"}}`, "Intuit: error codes"}},
	{Name: "page in place of a result", Body: bodyMalformed, Meaning: MeaningMalformed,
		Recorded: Recorded{200, typeHTML, "<!doctype html>\n<html lang=\"en\"><head><title>We'll be back soon</title></head></html>", "intuit/QuickBooks-V3-DotNET-SDK#29"}},
	{Name: "fault with status 200", Status: []string{"200"}, Body: bodyFault, Meaning: MeaningRequest,
		Recorded: Recorded{200, typeXML, `<IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2026-01-01T00:00:00.000-08:00"><Fault type="ValidationFault"><Error code="2010"><Message>Request has invalid or unsupported property</Message><Detail>Property Name:x specified is unsupported or invalid</Detail></Error></Fault></IntuitResponse>`, "Intuit: REST API errors"}},
	{Name: "unknown refusal", Meaning: MeaningRequest,
		Recorded: Recorded{400, typeJSON, `{"Fault":{"Error":[{"Message":"Duplicate Name Exists Error","Detail":"The name supplied already exists. : null","code":"6240"}],"type":"ValidationFault"},"time":"2024-06-23T04:29:11.688-07:00"}`, "Intuit: error codes"}},

	// OAuth.
	{Name: "client unknown", From: fromOAuth, Code: []string{"invalid_client", "unauthorized_client"}, Meaning: MeaningAppProblem,
		Recorded: Recorded{401, typeJSON, `{"error":"invalid_client"}`, "mcohen01/node-quickbooks#131"}},
	{Name: "token of another app", From: fromOAuth, Status: []string{"4xx"}, Code: []string{"invalid_grant"}, Says: []string{"clientid", "client id", "client_id", "client-id"}, Meaning: MeaningAppProblem,
		Recorded: Recorded{400, typeJSON, `{"error_description":"Incorrect Token type or clientID","error":"invalid_grant"}`, "intuit/QuickBooks-V3-PHP-SDK#240"}},
	// Accepted again hours later: during an incident of Intuit's, or when a token is
	// presented twice in a row.
	{Name: "refresh token refused", From: fromOAuth, Status: []string{"4xx"}, Code: []string{"invalid_grant"}, Meaning: MeaningTokenProblem,
		Recorded: Recorded{400, typeJSON, `{"error":"invalid_grant","error_description":"Incorrect or invalid refresh token"}`, "routablehq/python-quickbooks#397"}},
	{Name: "OAuth throttled", From: fromOAuth, Status: []string{"429"}, Meaning: MeaningThrottled,
		Recorded: Recorded{429, typeHTML, "", "intuit/QuickBooks-V3-PHP-SDK#111"}},
	{Name: "OAuth request refused", From: fromOAuth, Status: []string{"4xx"}, Body: bodyFault, Meaning: MeaningAppProblem,
		Recorded: Recorded{400, typeJSON, `{"error":"invalid_request"}`, "intuit/QuickBooks-V3-DotNET-SDK#342"}},
	{Name: "OAuth host in trouble", From: fromOAuth, Meaning: MeaningTransient,
		Recorded: Recorded{503, typeHTML, "", "intuit/QuickBooks-V3-DotNET-SDK#342"}},
	{Name: "revoke refused", From: fromRevoke, Status: []string{"4xx"}, Meaning: MeaningTokenProblem,
		Recorded: Recorded{400, typeJSON, "", "intuit/oauth-jsclient#71"}},
	{Name: "revoke failed", From: fromRevoke, Meaning: MeaningTransient,
		Recorded: Recorded{503, typeHTML, "", "intuit/oauth-jsclient#19"}},
}
