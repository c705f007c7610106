package qbo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// MaxObjects is how many objects an answer can hold. Whether CDC counts them
// over the whole answer or per entity Intuit does not say clearly; see Truncated.
const MaxObjects = 1000

// CDCResult is the answer to a CDC call.
type CDCResult struct {
	// Time is when the API answered, by Intuit's clock; zero if it did not say.
	Time time.Time
	// Entities by canonical name, in the order of the answer. An entity named
	// with no objects is there with an empty list.
	Entities map[string][]Entity
	// Blocks counts the QueryResponse objects: one for each entity asked for, an
	// empty one ({}, without a name) where nothing changed. Repeated ones of an
	// entity count once.
	Blocks int
	// Total counts the objects, those in NoID included.
	Total int
	// NoID are objects without an Id: they cannot be tracked, only reported.
	NoID []Entity
}

// Truncated says that the answer may leave out changes: it holds as many objects
// as an answer can. There is no next page; ask for fewer entities, then by Query.
// Neither startPosition nor totalCount of the answer tells: Intuit's own sample
// has a totalCount above the objects it lists.
func (r CDCResult) Truncated() bool { return r.Total >= MaxObjects }

// Complete says that the answer speaks of every entity asked for, be it with an
// empty block, and says when. A single empty block answers for all of them: that
// is Intuit's documented answer to a call for two entities without changes.
func (r CDCResult) Complete(asked []string) bool {
	if r.Time.IsZero() {
		return false
	}
	if r.Blocks == 1 && len(r.Entities) == 0 {
		return true
	}
	unnamed := r.Blocks - len(r.Entities)
	seen := map[string]bool{}
	for _, name := range asked {
		name = entity.Canonical(name)
		if _, named := r.Entities[name]; named || seen[name] {
			continue
		}
		seen[name] = true
		unnamed--
	}
	return unnamed >= 0
}

// CDC asks which of the entities changed since a time: whole objects, and
// stubs with status Deleted. There is no upper bound, no paging, and nothing
// before 30 days ago (ErrTooOld). Whether changedSince itself is included is not
// documented: overlap. One entity that CDC does not know fails the call.
//
// It is not documented either whether CDC shows all custom fields ([IncludeFields]): a
// document of an answer may lack some that Query and Read show.
func (c *Client) CDC(ctx context.Context, realm string, entities []string, since time.Time) (CDCResult, error) {
	var result CDCResult
	if len(entities) == 0 || since.IsZero() {
		return result, errors.New("cdc: no entities or no time given")
	}
	r := request{kind: "cdc", realm: realm, method: http.MethodGet, path: "cdc", query: url.Values{
		"entities":     {strings.Join(entities, ",")},
		"changedSince": {FormatTime(since)},
	}}
	if len(entities) == 1 {
		r.entity = entity.Canonical(entities[0])
	}
	err := c.doIncluding(ctx, r, func(header http.Header, body []byte) error {
		var err error
		result, err = DecodeCDC(body)
		if result.Time.IsZero() {
			result.Time = date(header)
			result.dateDeletions()
		}
		return err
	})
	if err != nil {
		return CDCResult{}, err
	}
	return result, nil
}

// DecodeCDC reads the body of a CDC answer. The error is a *Fault if the body
// holds one, at any level, or wraps ErrMalformed.
func DecodeCDC(body []byte) (CDCResult, error) {
	var root struct {
		Fault       json.RawMessage `json:"Fault"`
		CDCResponse *list[struct {
			Fault         json.RawMessage                  `json:"Fault"`
			QueryResponse list[map[string]json.RawMessage] `json:"QueryResponse"`
		}] `json:"CDCResponse"`
		Time text `json:"time"`
	}
	if f := xmlFault(body); f != nil {
		return CDCResult{}, f.inAnswer()
	}
	if err := json.Unmarshal(trim(body), &root); err != nil {
		return CDCResult{}, fmt.Errorf("%w: cdc: %w", ErrMalformed, err)
	}
	if f := decodeFaultValue(root.Fault); f != nil {
		return CDCResult{}, f.inAnswer()
	}
	if root.CDCResponse == nil {
		return CDCResult{}, fmt.Errorf("%w: cdc: no CDCResponse", ErrMalformed)
	}
	result := CDCResult{Time: parseTime(string(root.Time)), Entities: map[string][]Entity{}}
	for _, response := range *root.CDCResponse {
		if f := decodeFaultValue(response.Fault); f != nil {
			return CDCResult{}, f.inAnswer()
		}
		for _, members := range response.QueryResponse {
			b, err := decodeBlock(members)
			if err != nil {
				return CDCResult{}, inAnswer(err)
			}
			result.take(b)
		}
	}
	result.dateDeletions()
	return result, nil
}

func (r *CDCResult) take(b block) {
	fresh := len(b.order) == 0
	for _, name := range b.order {
		known, seen := r.Entities[name]
		fresh = fresh || !seen
		if !seen {
			known = []Entity{}
		}
		for _, e := range b.entities[name] {
			r.Total++
			if e.ID == "" {
				r.NoID = append(r.NoID, e)
				continue
			}
			known = append(known, e)
		}
		r.Entities[name] = known
	}
	if fresh {
		r.Blocks++
	}
}

// dateDeletions gives deletions that came without a time that of the answer: without one
// the tombstone would sort before every write, and the record is gone by now.
func (r *CDCResult) dateDeletions() {
	for _, entities := range r.Entities {
		for i := range entities {
			if e := &entities[i]; e.Deleted && e.LastUpdated.IsZero() {
				e.LastUpdated, e.NoTime = r.Time, true
			}
		}
	}
}

func trim(body []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
}

// inAnswer marks a fault as found inside an answer of status 200.
func (f *Fault) inAnswer() *Fault {
	f.Status = http.StatusOK
	return f
}

func inAnswer(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return f.inAnswer()
	}
	return err
}
