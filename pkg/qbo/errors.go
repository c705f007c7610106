package qbo

import (
	"context"
	"errors"
	"net"
)

// What an error of the API means; a *Fault is one or more of them by errors.Is.
var (
	// ErrUnauthorized: the access token is not valid (401, 3200). The client has
	// asked for another one and tried again before it returns this. A 401 whose token
	// the API takes for another call is not this: it refuses the call.
	ErrUnauthorized = errors.New("access token refused")
	// ErrForbidden: the company cannot be read (MeaningCompanyAccess): AccessOf
	// says why. A 403 of a gateway, which holds no fault, is not this.
	ErrForbidden = errors.New("not authorized for this company")
	// ErrThrottled: too many calls (429, 3001). Also what an app gets whose
	// monthly allowance is used up.
	ErrThrottled = errors.New("throttled")
	// ErrNotFound: the API knows no such record (610). It is no proof of a
	// deletion: the API may lag behind its own webhook. A bare 404 is not this:
	// a wrong base URL must not look like a deletion.
	ErrNotFound = errors.New("record not found")
	// ErrInvalidQuery: the statement does not parse or names something unknown
	// (4000, 4001).
	ErrInvalidQuery = errors.New("invalid query")
	// ErrUnknownEntity: Query knows no entity of that name here (one form of 4001).
	ErrUnknownEntity = errors.New("unknown entity")
	// ErrPoison: the query is right, but one of the records it touches cannot be
	// processed (4002, and one form of 10000); it fails for all of them.
	ErrPoison = errors.New("a record cannot be processed")
	// ErrTooOld: changedSince is further back than CDC reaches (30 days).
	ErrTooOld = errors.New("changedSince is further back than CDC reaches")
	// ErrServer: the fault is Intuit's (5xx, 10000).
	ErrServer = errors.New("error of the QuickBooks API")
	// ErrTooLong: the request is too long (414); ask for fewer ids.
	ErrTooLong = errors.New("request too long")
)

var (
	// ErrTooLarge: the answer passed Options.MaxResponse; ask for less at a time.
	ErrTooLarge = errors.New("answer too large")
	// ErrMalformed: an answer of status 200 is not what the API defines.
	ErrMalformed = errors.New("malformed answer")
	// ErrInvalidGrant: the refresh token or code is not valid, and never will be
	// again; only a person can connect the company anew.
	ErrInvalidGrant = errors.New("invalid_grant")
)

// networkError is a call that got no complete answer.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// Temporary says whether the same call may succeed later without anybody doing
// something: the API throttled or failed, a gateway answered in its place, the
// network failed, the time ran out, or an answer was malformed. A cancelled
// context is not temporary, nor is an error of a TokenSource or Limiter, unless
// it is one of the above.
func Temporary(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if _, responded := replyOf(err); responded {
		m := MeaningOf(err)
		return m == MeaningThrottled || m == MeaningTransient || m == MeaningMalformed
	}
	var network *networkError
	var netErr net.Error
	return errors.As(err, &network) || errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded)
}
