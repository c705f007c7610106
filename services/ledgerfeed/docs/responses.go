package docs

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
)

const responsesIntro = `# Responses of QuickBooks

<!-- Made from the table in pkg/qbo/responses.go by make generate; do not edit. -->

How Ledgerfeed reads each recorded response of Intuit's API and OAuth endpoints, and what follows.
The status alone says little: the same 403 is a lapsed company or a passing gateway error, and a 200
can hold a fault.

## Meanings

`

const responsesTable = `
## Recorded responses

The first row that matches decides. A new response is one new row in the table; a test sends each
recorded body to the client and checks the row and the meaning. "No fault" is a page, an empty body
or a form that the API does not document. A source such as owner/repository#1 is an issue on GitHub.

| response | example | recognised by | meaning | what the feed does | source |
|---|---|---|---|---|---|
`

// consequences say of each meaning what the feed does.
var consequences = map[qbo.Meaning]string{
	qbo.MeaningOK:                "Delivers what is in it.",
	qbo.MeaningEntityUnavailable: "Leaves the entity out for this company, reports it, asks again after a week. Its events are retried for an hour, then dead letters.",
	qbo.MeaningFilterUnsupported: "Asks without the condition, or for each record by its id.",
	qbo.MeaningCompanyAccess:     "Probes whether only one entity is refused. Else stops reading the company, says what helps, asks once an hour. Its events wait.",
	qbo.MeaningAppProblem:        "Parks no company. One alert names keys, base URL and environment. Events wait.",
	qbo.MeaningTokenProblem:      "Asks for another token, within bounds. A refused refresh token is kept and tried again hours later.",
	qbo.MeaningThrottled:         "Makes no call for the company until the time that was asked for, else for a minute.",
	qbo.MeaningTransient:         "Retries with growing delays for as long as it lasts. Nothing is given up.",
	qbo.MeaningPoison:            "Divides the request until the record stands alone, asks again, then makes a dead letter of it alone.",
	qbo.MeaningMalformed:         "Retries with growing delays. The cursor stays.",
	qbo.MeaningNotFound:          "Asks again and asks CDC. Only evidence makes it a deletion.",
	qbo.MeaningRequest:           "Asks for less, or probes what is concerned. Retries for at least an hour before a dead letter.",
}

const revokeRefused = "Tries the other tokens of the company. If all are refused, says that the grant may still be active."

// consequence is what the feed does after a response.
func consequence(row qbo.Response) string {
	if row.From == "revoke" && row.Meaning == qbo.MeaningTokenProblem {
		return revokeRefused
	}
	return consequences[row.Meaning]
}

// Responses is docs/responses.md.
func Responses() string {
	var b strings.Builder
	b.WriteString(responsesIntro + "| meaning | what the feed does |\n|---|---|\n")
	for m := qbo.MeaningOK; m <= qbo.MeaningRequest; m++ {
		fmt.Fprintf(&b, "| %s | %s |\n", m, consequences[m])
	}
	b.WriteString(responsesTable)
	for _, row := range qbo.Responses() {
		meaning := row.Meaning.String()
		if row.Access != "" {
			meaning += " (" + string(row.Access) + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			row.Name, example(row), condition(row), meaning, consequence(row), row.Recorded.Source)
	}
	return b.String()
}

// example is the recorded response in a line.
func example(row qbo.Response) string {
	recorded := row.Recorded
	text := ""
	fault := qbo.DecodeFault(recorded.Status, http.Header{"Content-Type": {recorded.ContentType}}, []byte(recorded.Body))
	switch {
	case recorded.Body == "":
		text = "(empty)"
	case row.From != "" || row.Meaning == qbo.MeaningOK:
		text = recorded.Body
	case len(fault.Errors) == 1 && strings.HasPrefix(fault.Errors[0].Message, "no fault"):
		_, said, _ := strings.Cut(fault.Errors[0].Message, "): ")
		text = cmp.Or(said, "(page)")
	case len(fault.Errors) > 0:
		e := fault.Errors[0]
		text = strings.TrimSpace(e.Code + " " + cmp.Or(e.Detail, e.Message))
	}
	if len(text) > 90 {
		text = text[:strings.LastIndexByte(text[:90], ' ')] + " …"
	}
	return fmt.Sprintf("%d `%s`", recorded.Status, strings.ReplaceAll(text, "|", `\|`))
}

// condition is how the row is recognised.
func condition(row qbo.Response) string {
	var parts []string
	if row.From != "" {
		parts = append(parts, row.From+" endpoint")
	}
	if len(row.Status) > 0 {
		parts = append(parts, "status "+strings.Join(row.Status, " or "))
	}
	if len(row.Code) > 0 {
		parts = append(parts, "code "+strings.Join(row.Code, " or "))
	}
	for _, text := range row.Says {
		parts = append(parts, "text `"+text+"`")
	}
	if row.Body != "" {
		parts = append(parts, "body: "+row.Body)
	}
	if len(parts) == 0 {
		return "anything else"
	}
	return strings.Join(parts, ", ")
}
