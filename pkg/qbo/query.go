package qbo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// maxURL is where Query turns from GET to POST; servers and proxies take 8 KiB.
const maxURL = 6 << 10

// QueryResult is the answer to a Query.
type QueryResult struct {
	// Time is when the API answered, by Intuit's clock; zero if it did not say.
	Time time.Time
	// Entities in the order of the answer. Deleted records are not among them,
	// nor inactive ones unless the statement asks for `Active IN (true, false)`.
	Entities []Entity
	// StartPosition and MaxResults repeat the page; 0 where the API left them out.
	StartPosition int
	MaxResults    int
	// TotalCount is the answer to SELECT COUNT(*); otherwise mostly 0.
	TotalCount int
	// NoID are objects without an Id or another key: they cannot be tracked, only
	// reported.
	NoID []Entity
}

// Query runs a statement of Intuit's query language, such as
//
//	SELECT * FROM Invoice WHERE Id IN ('1','2') MAXRESULTS 1000
//
// The entity's name is case sensitive, the default page 100 rows and the
// largest 1000; a longer answer is cut without a sign of it. Write strings with
// Quote and times with FormatTime. A long statement goes by POST.
func (c *Client) Query(ctx context.Context, realm, statement string) (QueryResult, error) {
	r := request{kind: "query", entity: entityOf(statement), realm: realm, path: "query",
		method: http.MethodGet, query: url.Values{"query": {statement}}}
	if len(c.base)+len(realm)+len(escape(statement)) > maxURL-128 {
		r.method, r.query, r.body = http.MethodPost, url.Values{}, statement
	}
	var result QueryResult
	err := c.do(ctx, r, func(header http.Header, body []byte) error {
		var err error
		result, err = DecodeQuery(body)
		if result.Time.IsZero() {
			result.Time = date(header)
		}
		return err
	})
	if err != nil {
		return QueryResult{}, err
	}
	return result, nil
}

// DecodeQuery reads the body of a Query answer. The error is a *Fault if the
// body holds one, or wraps ErrMalformed.
func DecodeQuery(body []byte) (QueryResult, error) {
	if f := xmlFault(body); f != nil {
		return QueryResult{}, f.inAnswer()
	}
	var fault, answer json.RawMessage
	var at text
	body = trim(body)
	err := check(body)
	if err != nil {
		return QueryResult{}, fmt.Errorf("%w: query: %w", ErrMalformed, err)
	}
	err = members(body, func(key []byte, value json.RawMessage) error {
		switch {
		case is(key, "Fault"):
			fault = value
		case is(key, "QueryResponse"):
			answer = value
		case is(key, "time"):
			return at.UnmarshalJSON(value)
		}
		return nil
	})
	if err != nil {
		return QueryResult{}, fmt.Errorf("%w: query: %w", ErrMalformed, err)
	}
	if f := decodeFaultValue(fault); f != nil {
		return QueryResult{}, f.inAnswer()
	}
	if len(answer) == 0 || answer[0] == 'n' {
		return QueryResult{}, fmt.Errorf("%w: query: no QueryResponse", ErrMalformed)
	}
	lists := map[string]json.RawMessage{}
	err = members(answer, func(key []byte, value json.RawMessage) error { lists[string(key)] = value; return nil })
	if err != nil {
		return QueryResult{}, fmt.Errorf("%w: query: %w", ErrMalformed, err)
	}
	b, err := decodeBlock(lists)
	if err != nil {
		return QueryResult{}, inAnswer(err)
	}
	result := QueryResult{
		Time:          parseTime(string(at)),
		StartPosition: b.startPosition, MaxResults: b.maxResults, TotalCount: b.totalCount,
	}
	noID := func(e Entity) bool { return e.ID == "" }
	for _, name := range b.order {
		all := b.entities[name]
		for _, e := range all {
			if noID(e) {
				result.NoID = append(result.NoID, e)
			}
		}
		result.Entities = append(result.Entities, slices.DeleteFunc(all, noID)...)
	}
	return result, nil
}

// entityOf finds the entity a statement asks for; "" if it is none we know.
// It is for the observer of calls only.
func entityOf(statement string) string {
	words := strings.Fields(statement)
	for i, word := range words {
		if strings.EqualFold(word, "FROM") && i+1 < len(words) {
			if info, ok := entity.Lookup(words[i+1]); ok {
				return info.Name
			}
			return ""
		}
	}
	return ""
}
