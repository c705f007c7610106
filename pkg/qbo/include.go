package qbo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
)

// IncludeFields asks for all custom fields of a record. Without it an answer holds three
// at most (Intuit's guide "create custom fields"; Wish-Org/QuickBooksSharp#31).
const IncludeFields = "enhancedAllCustomFields"

// includes remembers by realm whether CDC takes IncludeFields. It is documented for
// Query and Read alone.
type includes struct{ taken, refused sync.Map }

// doIncluding makes a CDC call with IncludeFields. A realm that refuses the call is asked
// once without it: if that works, it is asked so from then on. Refused calls are not
// metered.
func (c *Client) doIncluding(ctx context.Context, r request, decode func(http.Header, []byte) error) error {
	_, r.plain = c.includes.refused.Load(r.realm)
	err := c.do(ctx, r, decode)
	if r.plain {
		return err
	}
	if err == nil {
		c.includes.taken.Store(r.realm, true)
		return nil
	}
	if _, taken := c.includes.taken.Load(r.realm); taken || !mayBeInclude(err) {
		return err
	}
	r.plain = true
	if c.do(ctx, r, decode) != nil {
		return err // the parameter was not the cause
	}
	c.includes.refused.Store(r.realm, true)
	return nil
}

// mayBeInclude reports whether an error may be about a parameter of the request.
func mayBeInclude(err error) bool {
	var f *Fault
	switch {
	case !errors.As(err, &f) || f.CallAlone || errors.Is(err, ErrTooOld):
		return false
	case f.Status == http.StatusOK:
		return MeaningOf(err) == MeaningRequest
	}
	return f.Status == http.StatusBadRequest && !Temporary(err) && !errors.Is(err, ErrPoison)
}

// legacyFields are the custom fields that every answer holds: those of before the
// enhanced ones. Their definitions are numbered from 1.
const legacyFields = 3

// HasEnhancedFields reports whether a document holds a custom field that an answer
// without [IncludeFields] leaves out: one beyond the third, or with a definition that is
// not "1", "2" or "3".
func HasEnhancedFields(document []byte) bool {
	definitions := customFields(document)
	if len(definitions) > legacyFields {
		return true
	}
	for _, d := range definitions {
		switch d {
		case "", "1", "2", "3":
		default:
			return true
		}
	}
	return false
}

// ShowsAllFields reports whether a document holds more custom fields than an answer
// without [IncludeFields] does, which proves that its answer leaves out none.
func ShowsAllFields(document []byte) bool { return len(customFields(document)) > legacyFields }

// customFields are the definitions of a document's custom fields. It looks at that member
// alone: each delivered document is asked for it.
func customFields(document []byte) (definitions []text) {
	name := []byte(`"CustomField"`)
	for {
		at := bytes.Index(document, name)
		if at < 0 {
			return nil
		}
		document = bytes.TrimLeft(document[at+len(name):], " \t\r\n")
		if len(document) == 0 || document[0] != ':' {
			continue // a text of that name
		}
		rest := scanner{raw: document, at: 1}
		value, ok := rest.value()
		if !ok {
			return nil
		}
		var fields list[struct {
			DefinitionID text `json:"DefinitionId"`
		}]
		if err := json.Unmarshal(value, &fields); err != nil && !isTypeError(err) {
			return nil
		}
		for _, f := range fields {
			definitions = append(definitions, f.DefinitionID)
		}
		return definitions
	}
}
