package connection

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// ConsentTime is how long a person has at Intuit's consent page.
const ConsentTime = 15 * time.Minute

// ErrNoConsent: the state was never given out, has run out, or was used already.
var ErrNoConsent = errors.New("no such consent in progress")

// Consent is what is remembered of a person who was sent to Intuit. It holds no
// secret.
type Consent struct {
	// Browser is a digest of what the browser that comes back must show.
	Browser string `json:"browser"`
	// RealmID is the company that is to be connected anew; "" for any.
	RealmID string `json:"realm_id,omitempty"`
}

// BeginConsent remembers a consent for [ConsentTime] and returns the state for the
// authorize URL. Any replica can end it. Losing Redis loses it: the person begins
// again.
func (s *Store) BeginConsent(ctx context.Context, c Consent) (state string, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("start a consent: %w", err)
	}
	state = rand.Text()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.db.Set(ctx, consentKey(state), text, ConsentTime).Err(); err != nil {
		return "", fmt.Errorf("start a consent: %w", err)
	}
	return state, nil
}

// EndConsent returns what belongs to a state and forgets it: a second time, as for
// any other text, the error wraps [ErrNoConsent].
func (s *Store) EndConsent(ctx context.Context, state string) (Consent, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	text, err := s.db.GetDel(ctx, consentKey(state)).Bytes()
	if errors.Is(err, redis.Nil) {
		return Consent{}, ErrNoConsent
	}
	var c Consent
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return Consent{}, fmt.Errorf("end a consent: %w", err)
	}
	return c, nil
}

func consentKey(name string) string { return state.TempKey("consent", name) }
