package qbosim

import "slices"

// RecordedResponse is what Intuit was seen to answer instead of what was asked for.
type RecordedResponse struct {
	// Name is what [Refusal.Recorded] and the control API know it by.
	Name string
	// Passing responses end by themselves; the others last until somebody does something.
	Passing bool
	Status  int
	Code    string
	Message string
	Detail  string
	Body    string
	// Source is where it was seen: repository#issue, or a page of Intuit.
	Source string
}

// RecordedResponses are all that there are, the passing ones first.
func RecordedResponses() []RecordedResponse { return slices.Clone(recorded[:]) }

const htmlNotFound = `<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>`

var recorded = [...]RecordedResponse{
	{Name: "gateway-404", Passing: true, Status: 404, Body: htmlNotFound, Source: "ruckus/quickbooks-ruby#363"},
	{Name: "gateway-302", Passing: true, Status: 302, Body: `<html><head><title>302 Found</title></head><body>Resource redirect or resource has moved</body></html>`, Source: "Intuit, gateway error table"},
	{Name: "gateway-400", Passing: true, Status: 400, Body: `<html><head><title>400 Bad Request</title></head><body><center><h1>400 Bad Request</h1></center></body></html>`, Source: "ruckus/quickbooks-ruby#363"},
	{Name: "gateway-503", Passing: true, Status: 503, Body: `<html><head><title>503 Service Unavailable</title></head><body>No server is available to handle this request.</body></html>`, Source: "minimul/qbo_api#81"},
	{Name: "gateway-403", Passing: true, Status: 403, Body: `{"code":403,"type":"ERROR","message":"Forbidden","detail":"Resource not found: routing error","moreInfo":"cid-1"}`, Source: "Intuit, gateway error table"},
	{
		Name: "resource-400", Passing: true, Status: 400, Code: "500", Message: "Unsupported Operation",
		Detail: "Operation Could not find resource for relative : /v3/company/:realmid/query of full path: https://c10.qbo.intuit.com/qbo10/v3/company/:realmid/query is not supported.", Source: "minimul/qbo_api#81",
	},
	{
		Name: "internal-6000", Passing: true, Status: 400, Code: "6000", Message: "A business validation error has occurred while processing your request",
		Detail: "Business Validation Error: Unexpected Internal Error. (-30000)", Source: "mcohen01/node-quickbooks#48",
	},
	{
		Name: "wait-6000", Passing: true, Status: 400, Code: "6000", Message: "A business validation error has occurred while processing your request",
		Detail: "Business Validation Error: An unexpected error occurred while accessing or saving your data. Please wait a few minutes and try again. If the problem persists, contact customer support.", Source: "ruckus/quickbooks-ruby#344",
	},
	{Name: "server-3100", Passing: true, Status: 500, Code: "3100", Message: "message=InternalServerError; errorCode=003100; statusCode=500", Source: "routablehq/python-quickbooks#106"},
	{
		Name: "xml-200", Passing: true, Status: 200,
		Body:   `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="2026-11-30T05:00:00.000-08:00"><Fault type="SystemFault"><Error code="10000"><Message>An application error has occurred while processing your request</Message><Detail>System Failure Error: null</Detail></Error></Fault></IntuitResponse>`,
		Source: `Intuit, "200 OK may contain a Fault"`,
	},
	{Name: "cluster-130", Passing: true, Status: 401, Code: "130", Message: "Accessing Wrong Cluster", Source: "ej2/python-quickbooks#369"},
	{Name: "auth-100", Passing: true, Status: 401, Code: "100", Message: "General Authentication Error", Detail: "SRV-110-Authentication Failure", Source: "intuit/oauth-jsclient#135"},

	{Name: "access-120", Status: 401, Code: "120", Message: "Authorization Failure", Detail: "-11014-You do not have access to use QuickBooks Online Plus", Source: "gist minimul/2985d1b6"},
	{Name: "forbidden-3100", Status: 403, Code: "3100", Message: "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403", Source: "ruckus/quickbooks-ruby#206"},
	{
		Name: "ended-6190", Status: 400, Code: "6190", Message: "Invalid Company Status",
		Detail: "Subscription period has ended or canceled or there was a billing problem : You can't add data to QuickBooks Online Plus because your trial or subscription period ended, you canceled your subscription, or there was a billing problem.", Source: "intuit/QuickBooks-V3-PHP-SDK#211",
	},
	{
		Name: "feature-5020", Status: 400, Code: "5020", Message: "Permission Denied Error",
		Detail: "Permission Denied Error : You do not have permission to access this feature: your product is not entitled to it", Source: "intuit/oauth-jsclient#89",
	},
	{Name: "feature-5030", Status: 400, Code: "5030", Message: "Feature Not Supported Error", Detail: "Feature Not Supported Error : The feature you are using is not supported", Source: "Intuit, IPP code table"},
	{Name: "business-6000", Status: 400, Code: "6000", Message: "A business validation error has occurred while processing your request", Detail: "Business Validation Error: You must turn on this feature first", Source: "Intuit, IPP code table"},
	{Name: "bare-400", Status: 400, Source: "400 without a body"},
	{Name: "fault-200", Status: 200, Code: "5020", Message: "Permission Denied Error", Detail: "Permission Denied Error : You do not have permission to access this feature", Source: "intuit/QuickBooks-V3-PHP-SDK#211"},
	{Name: "system-500", Status: 500, Code: "10000", Message: "An application error has occurred while processing your request", Detail: "System Failure Error: null", Source: "minimul/qbo_api#96"},
	{Name: "unqueryable-4001", Status: 400, Code: "4001", Message: "Invalid query", Detail: "QueryValidationError: property 'MetaData.LastUpdatedTime' is not queryable", Source: "ruckus/quickbooks-ruby#403"},
}

var recordedByName = func() map[string]RecordedResponse {
	all := map[string]RecordedResponse{}
	for _, r := range recorded {
		all[r.Name] = r
	}
	return all
}()

func recordedNames() (names []string) {
	for _, r := range recorded {
		names = append(names, r.Name)
	}
	return names
}
