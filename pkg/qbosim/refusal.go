package qbosim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Refusal answers calls with something else than what was asked for. Of several
// that match a call the first one answers.
//
// A refusal of an entity refuses every Query, count and read of it, and the whole
// answer of CDC where the list names it. In a batch only the item is refused.
type Refusal struct {
	// Realm and Entity say what is refused; "" is every realm and every call.
	Realm  string
	Entity string
	// Recorded is the name of one of [RecordedResponses]. It replaces the fields
	// below up to Body.
	Recorded string
	// Status and Code make a Fault; status 200 makes a Fault inside a 200.
	Status int
	Code   string
	// Message and Detail default to the recorded ones of Code.
	Message, Detail string
	// Body is sent as it is instead of the Fault. Its first character says what it is:
	// HTML or XML ('<'), JSON ('{'), else text.
	Body string
	// For is how long it lasts by Intuit's clock, from when it was set; 0: until it
	// is lifted.
	For time.Duration
	// Share is the share of matching calls that are refused; 0 is all.
	Share float64
}

// TokenRefusal answers a refresh with invalid_grant. The token is not used up: it
// is good again once the refusal is over.
type TokenRefusal struct {
	// Realm is "" for all.
	Realm string
	// Description is Intuit's error_description, such as [WrongClient]; "" sends none.
	Description string
	// For is as in [Refusal].
	For time.Duration
}

// WrongClient is how Intuit describes a refresh with the keys of another app.
const WrongClient = "Incorrect Token type or clientID"

func (r Refusal) validate() error {
	_, known := recordedByName[r.Recorded]
	_, entityKnown := entity.Lookup(r.Entity)
	switch {
	case r.Recorded != "" && !known:
		return fmt.Errorf("refuse %q: there is no such recorded response; there are %s", r.Recorded, strings.Join(recordedNames(), ", "))
	case r.Recorded == "" && (r.Status < 200 || r.Status > 599):
		return fmt.Errorf("refuse with status %d: give one from 200 to 599, or the name of a recorded response", r.Status)
	case r.Entity != "" && !entityKnown:
		return fmt.Errorf("refuse %q: %w", r.Entity, ErrUnknownEntity)
	case r.For < 0:
		return fmt.Errorf("refuse for %s: give a positive duration, or 0 for until it is lifted", r.For)
	case !(r.Share >= 0 && r.Share <= 1):
		return fmt.Errorf("refuse share %v: give a share from 0 to 1", r.Share)
	}
	return nil
}

// expanded is the refusal with what its recorded response says.
func (r Refusal) expanded() Refusal {
	if known, ok := recordedByName[r.Recorded]; ok {
		r.Status, r.Code, r.Message, r.Detail, r.Body = known.Status, known.Code, known.Message, known.Detail, known.Body
	}
	if info, ok := entity.Lookup(r.Entity); ok {
		r.Entity = info.Name
	}
	if r.Message == "" && r.Detail == "" && r.Code != "" {
		known := recordedOf(r.Status, r.Code)
		r.Message, r.Detail = known.Message, known.Detail
	}
	return r
}

// recordedOf is the recorded response of a code: best of that status too, and one that
// does not pass by itself. One code may have several texts.
func recordedOf(status int, code string) (best RecordedResponse) {
	fits := 0
	for _, known := range recorded {
		fit := 1
		if known.Status == status {
			fit += 2
		}
		if !known.Passing {
			fit++
		}
		if known.Code == code && fit > fits {
			best, fits = known, fit
		}
	}
	return best
}

func expandAll(refuse []Refusal) []Refusal {
	all := make([]Refusal, len(refuse))
	for i, r := range refuse {
		all[i] = r.expanded()
	}
	return all
}

// since says from when on something lasts that was set at a time.
type since[T comparable] struct {
	what T
	from time.Time
}

// begin keeps the beginning of what was in force already: setting other faults does
// not make it last longer.
func begin[T comparable](before []since[T], what []T, now time.Time) []since[T] {
	var all []since[T]
	for _, w := range what {
		from := now
		for _, b := range before {
			if b.what == w {
				from = b.from
			}
		}
		all = append(all, since[T]{w, from})
	}
	return all
}

func (s since[T]) lasts(length time.Duration, now time.Time) bool {
	return length == 0 || now.Sub(s.from) < length
}

// refused is the fault of the first refusal of the entity, nil if there is none; ""
// is what the call does not have to name.
func (c *call) refused(name string) *fault {
	for _, r := range c.faults.refusals {
		match := r.what.Entity == name && (r.what.Realm == "" || r.what.Realm == c.realm.id)
		if !match || !r.lasts(r.what.For, c.now) || r.what.Share > 0 && !chance(c.rng, r.what.Share) {
			continue
		}
		x := r.what
		c.answer = &x
		if name != "" {
			c.realm.meter.refusedEntity(name, c.kind)
		}
		return &fault{x.Status, faultType(x.Status, x.Code), x.Code, x.Message, x.Detail}
	}
	return nil
}

// refusedByRead refuses a read by the entity of its path.
func (c *call) refusedByRead(name string) *fault {
	return c.refused(entity.Canonical(name))
}

func faultType(status int, code string) string {
	switch {
	case code == "100" || code == "130":
		return "AuthenticationFault"
	case status == http.StatusUnauthorized:
		return "AUTHENTICATION"
	case status == http.StatusForbidden:
		return "AUTHORIZATION"
	case status >= http.StatusInternalServerError:
		return "SystemFault"
	}
	return "ValidationFault"
}

// write answers with the body, or with the Fault in the shape that was recorded for
// its status.
func (r *Refusal) write(w http.ResponseWriter, f *fault, now time.Time) {
	switch {
	case r.Status >= 300 && r.Status < 400:
		w.Header().Set("Location", "https://quickbooks.api.intuit.com/")
	case r.Status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="Intuit", error="invalid_token"`)
	}
	switch {
	case r.Body == "" && r.Code != "" && (f.kind == "AUTHENTICATION" || f.kind == "AUTHORIZATION"):
		f.writeLower(w, now)
	case r.Body == "" && r.Code != "" && f.kind == "AuthenticationFault":
		f.writeXML(w, now)
	case r.Body == "" && r.Code != "":
		writeJSON(w, f.status, map[string]any{"Fault": f.body(), "time": answerTime(now)})
	default:
		w.Header().Set("Content-Type", contentType(r.Body))
		w.WriteHeader(r.Status)
		_, _ = w.Write([]byte(r.Body))
	}
}

func contentType(body string) string {
	switch {
	case strings.HasPrefix(body, "{"):
		return "application/json;charset=UTF-8"
	case strings.HasPrefix(body, "<?xml"), strings.HasPrefix(body, "<IntuitResponse"):
		return "application/xml"
	case strings.HasPrefix(body, "<"):
		return "text/html"
	}
	return "text/plain"
}

// refusedRefresh says how a refresh of the realm is refused.
func (f *activeFaults) refusedRefresh(realm string, now time.Time) (description string, ok bool) {
	for _, r := range f.refreshes {
		if (r.what.Realm == "" || r.what.Realm == realm) && r.lasts(r.what.For, now) {
			return r.what.Description, true
		}
	}
	return "", false
}

// refusalJSON has the duration as people write it.
type refusalJSON struct {
	Realm    string   `json:"realm,omitempty"`
	Entity   string   `json:"entity,omitempty"`
	Recorded string   `json:"recorded,omitempty"`
	Status   int      `json:"status,omitempty"`
	Code     string   `json:"code,omitempty"`
	Message  string   `json:"message,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Body     string   `json:"body,omitempty"`
	For      duration `json:"for,omitempty"`
	Share    float64  `json:"share,omitempty"`
}

// MarshalJSON writes the duration as text ("1.5s").
func (r Refusal) MarshalJSON() ([]byte, error) {
	return json.Marshal(refusalJSON{r.Realm, r.Entity, r.Recorded, r.Status, r.Code, r.Message, r.Detail, r.Body, duration(r.For), r.Share})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Refusal) UnmarshalJSON(data []byte) error {
	var in refusalJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*r = Refusal{in.Realm, in.Entity, in.Recorded, in.Status, in.Code, in.Message, in.Detail, in.Body, time.Duration(in.For), in.Share}
	return r.validate()
}

type tokenRefusalJSON struct {
	Realm       string   `json:"realm,omitempty"`
	Description string   `json:"description,omitempty"`
	For         duration `json:"for,omitempty"`
}

// MarshalJSON writes the duration as text ("1.5s").
func (r TokenRefusal) MarshalJSON() ([]byte, error) {
	return json.Marshal(tokenRefusalJSON{r.Realm, r.Description, duration(r.For)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *TokenRefusal) UnmarshalJSON(data []byte) error {
	var in tokenRefusalJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*r = TokenRefusal{in.Realm, in.Description, time.Duration(in.For)}
	return r.validate()
}

func (r TokenRefusal) validate() error {
	if r.For < 0 {
		return errors.New("refuse refreshes: give a positive duration, or 0 for until it is lifted")
	}
	return nil
}

// unfilterable refuses conditions and orders on an entity that has nothing to filter
// by, as Preferences has.
func (c *call) unfilterable(sel *selection) *fault {
	if !c.faults.unfilterable[sel.info.Name] {
		return nil
	}
	if len(sel.where) > 0 {
		return invalidQuery("property '%s' is not queryable", sel.where[0].field.name)
	}
	if sel.orderBy.kind != kindNone {
		return invalidQuery("property '%s' is not sortable", sel.orderBy.name)
	}
	return nil
}

// grantDescription is one of the recorded descriptions of invalid_grant.
func grantDescription(rng *rand.Rand) string {
	return pick(rng, []string{"", "Incorrect or invalid refresh token", "Token invalid"})
}
