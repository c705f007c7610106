package connection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// RefreshRefusal is an answer of Intuit's token endpoint that gives no token and says
// nothing about the one that was presented: invalid_request, a gateway's page, or that
// there are too many requests. The refresh is repeated at Next, and then with growing
// delays. Calls go on for as long as the access token is good.
type RefreshRefusal struct {
	At    time.Time `json:"at"`    // the last time
	Count int       `json:"count"` // in a row
	Next  time.Time `json:"next"`  // when it is tried again
	// Message and TID are Intuit's: what it answered, and its id of the call.
	Message string `json:"message"`
	TID     string `json:"tid,omitempty"`
	// Generation is the token's. With another one the refusal is over.
	Generation int64 `json:"generation"`
}

// unanswered reports whether err is such an answer: a status 4xx that is neither about the
// token (invalid_grant) nor about the app's keys.
func unanswered(err error) (*qbo.OAuthError, bool) {
	var answer *qbo.OAuthError
	if !errors.As(err, &answer) || answer.Status < http.StatusBadRequest || answer.Status >= http.StatusInternalServerError {
		return nil, false
	}
	switch answer.Code {
	case "invalid_grant", "invalid_client", "unauthorized_client":
		return nil, false
	}
	return answer, true
}

// noteUnanswered stores that a refresh of r's token was refused, and returns until when the
// next one waits. Only the holder of the realm's lease calls it.
func (s *Store) noteUnanswered(ctx context.Context, r record, answer *qbo.OAuthError, cause error) error {
	next := RefreshRefusal{At: s.now(), Count: 1, Message: answer.Error(), TID: answer.TID, Generation: r.Generation}
	if r.RefreshRefusal != nil {
		next.Count += r.RefreshRefusal.Count
	}
	hold := longestHold
	if n := next.Count - 1; n < 10 {
		hold = min(firstHold<<n, longestHold)
	}
	next.Next = next.At.Add(hold)
	err := s.storeUnanswered(ctx, r.RealmID, next)
	s.log.Warn("token not refreshed, will retry", telemetry.Realm(r.RealmID), telemetry.App(r.App),
		telemetry.Count(next.Count), telemetry.After(hold), telemetry.TID(next.TID), telemetry.Error(errors.Join(cause, err)))
	return s.wait(r.RealmID, next.Next, fmt.Errorf("refresh the token: %w", cause))
}

func (s *Store) storeUnanswered(ctx context.Context, realm string, next RefreshRefusal) error {
	text, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("record the failed refresh of realm %s: %w", realm, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.HSet(ctx, connKey(realm), fieldUnanswered, text).Err(); err != nil {
		return fmt.Errorf("record the failed refresh of realm %s: %w", realm, err)
	}
	return nil
}

// waitsForRefresh says until when no refresh of r's token is made, if so. A time that is
// further ahead than any hold comes of a clock that was.
func (s *Store) waitsForRefresh(r record) error {
	if r.RefreshRefusal == nil {
		return nil
	}
	left := r.RefreshRefusal.Next.Sub(s.now())
	if left <= 0 || left > longestHold {
		return nil
	}
	return s.wait(r.RealmID, r.RefreshRefusal.Next, errors.New("refresh the token: "+r.RefreshRefusal.Message))
}

// refreshRefusalOf reads a stored one, if it is about the token of that generation.
func refreshRefusalOf(text string, generation int64) *RefreshRefusal {
	var r RefreshRefusal
	if text == "" || json.Unmarshal([]byte(text), &r) != nil || r.Generation != generation {
		return nil
	}
	return &r
}
