package qbo

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Meaning is what a response says to the feed. The status alone does not tell:
// see [Responses] for the recorded responses behind each.
type Meaning uint8

// The meanings of a response.
const (
	// MeaningOK: the call succeeded.
	MeaningOK Meaning = iota
	// MeaningEntityUnavailable: this company has no such entity; its other
	// entities are not concerned.
	MeaningEntityUnavailable
	// MeaningFilterUnsupported: the entity exists, but a property of the condition
	// cannot be filtered by.
	MeaningFilterUnsupported
	// MeaningCompanyAccess: the company cannot be read at all: see AccessOf. A 403
	// may concern one entity instead; only a probe of another entity can tell.
	MeaningCompanyAccess
	// MeaningAppProblem: the keys or the base URL are wrong, for every company.
	MeaningAppProblem
	// MeaningTokenProblem: the token is not accepted.
	MeaningTokenProblem
	// MeaningThrottled: too many calls.
	MeaningThrottled
	// MeaningTransient: the same call may succeed later, without any change. It is
	// also every error that is no response: the network's, a limiter's.
	MeaningTransient
	// MeaningPoison: the request is right, but one record in it cannot be processed.
	MeaningPoison
	// MeaningMalformed: a status 200 without what the API defines.
	MeaningMalformed
	// MeaningNotFound: the API knows no such record (yet).
	MeaningNotFound
	// MeaningRequest: the request is at fault (too long, too old, bad syntax), or it
	// was refused for a reason that no row of the table explains. The latter may
	// concern one record, one entity or all: only a probe can tell.
	MeaningRequest
)

var meaningNames = [...]string{
	MeaningOK:                "ok",
	MeaningEntityUnavailable: "entity unavailable",
	MeaningFilterUnsupported: "filter not supported",
	MeaningCompanyAccess:     "company access problem",
	MeaningAppProblem:        "app problem",
	MeaningTokenProblem:      "token problem",
	MeaningThrottled:         "throttled",
	MeaningTransient:         "transient",
	MeaningPoison:            "poison record",
	MeaningMalformed:         "malformed",
	MeaningNotFound:          "record not found",
	MeaningRequest:           "request refused",
}

// String is the name of the meaning.
func (m Meaning) String() string {
	if int(m) < len(meaningNames) {
		return meaningNames[m]
	}
	return "meaning " + strconv.Itoa(int(m))
}

// Access is why a company cannot be read.
type Access string

// The reasons of MeaningCompanyAccess.
const (
	// AccessRights: the person who connected the company has lost the right.
	AccessRights Access = "rights"
	// AccessSubscription: the subscription of the company has ended.
	AccessSubscription Access = "subscription"
	// AccessEnvironment: a sandbox company was asked at the production URL or the
	// other way round, or the subscription has lapsed: the response is the same.
	AccessEnvironment Access = "environment"
)

// MeaningOf interprets an error as a Client or an OAuth returned it; nil is OK.
func MeaningOf(err error) Meaning { return ResponseOf(err).Meaning }

// AccessOf is why the company cannot be read; "" unless that is the meaning.
func AccessOf(err error) Access { return ResponseOf(err).Access }

// Errors that the table does not cover: no response or only a part of it came, or
// another call tells more than the response.
var (
	noResponse     = Response{Name: "no response", Meaning: MeaningTransient}
	refusedAlone   = Response{Name: "401 to one call alone", Meaning: MeaningRequest}
	resultTooLarge = Response{Name: "result too large", Meaning: MeaningRequest}
)

// ResponseOf is the row of the table that an error matches.
func ResponseOf(err error) Response {
	var f *Fault
	r, ok := replyOf(err)
	switch {
	case errors.As(err, &f) && f.CallAlone:
		return refusedAlone
	case ok:
		// The last rows of each endpoint match everything.
		return responses[slices.IndexFunc(responses, func(row Response) bool { return row.matches(r) })]
	case errors.Is(err, ErrTooLarge):
		return resultTooLarge
	}
	return noResponse
}

// Endpoints a response can come from.
const (
	fromAPI    = "api"
	fromOAuth  = "token"
	fromRevoke = "revoke"
)

// Kinds of a body.
const (
	bodyOK        = "result"   // what the call asked for
	bodyFault     = "fault"    // an error in a documented form, at any status
	bodyNoFault   = "no fault" // a page, nothing, or another form
	bodyMalformed = "malformed"
)

// reply is what of a response the table can match.
type reply struct {
	from   string
	status int
	body   string
	codes  []string
	text   string // messages and details, lower case
}

func replyOf(err error) (reply, bool) {
	var f *Fault
	var o *OAuthError
	switch {
	case err == nil:
		return reply{from: fromAPI, status: 200, body: bodyOK}, true
	case errors.As(err, &o):
		return o.reply(), true
	case errors.As(err, &f):
		return f.reply(), true
	case errors.Is(err, ErrMalformed):
		return reply{from: fromAPI, status: 200, body: bodyMalformed}, true
	}
	return reply{}, false
}

func (f *Fault) reply() reply {
	r := reply{from: fromAPI, status: f.Status, body: bodyNoFault}
	if f.readable() {
		r.body = bodyFault
	}
	var text strings.Builder
	for _, e := range f.Errors {
		r.codes = append(r.codes, e.Code)
		text.WriteString(e.Message + "\n" + e.Detail + "\n")
	}
	r.text = strings.ToLower(text.String())
	return r
}

// readable reports whether the body held a fault in a documented form.
func (f *Fault) readable() bool {
	return f.Type != "" || slices.ContainsFunc(f.Errors, func(e FaultError) bool {
		return e.Code != "" || !strings.HasPrefix(e.Message, noFault)
	})
}

func (e *OAuthError) reply() reply {
	r := reply{from: fromOAuth, status: e.Status, body: bodyNoFault, text: strings.ToLower(e.Description)}
	if e.revoke {
		r.from = fromRevoke
	}
	if e.Code != "" {
		r.body, r.codes = bodyFault, []string{e.Code}
	}
	return r
}
