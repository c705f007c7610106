package envelope

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// InvalidError says why bytes are no envelope a consumer could act on. Field is
// the path of the field in the message ("events[3].entity_id"), or empty if the
// bytes are no protobuf of an envelope at all.
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Field == "" {
		return "invalid envelope: " + e.Reason
	}
	return "invalid envelope: " + e.Field + ": " + e.Reason
}

// Encode validates env and returns its bytes. The same envelope has the same
// bytes in every process of one build; ids are the identity, not the bytes.
func Encode(env *ledgerfeedv1.Envelope) ([]byte, error) {
	if err := validate(env); err != nil {
		return nil, err
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(env)
	if err != nil {
		return nil, &InvalidError{Reason: err.Error()}
	}
	return b, nil
}

// Format is the highest Envelope.format that this version understands.
const Format = 0

// ErrNewer: the envelope is of a format that only a newer version understands. It is
// not at fault, so it must wait for such a one.
var ErrNewer = errors.New("the envelope is of a newer version")

// Decode returns the envelope in data, an *InvalidError, or an error that wraps
// ErrNewer. Fields of a newer version are kept and encoded again. It never panics.
func Decode(data []byte) (*ledgerfeedv1.Envelope, error) {
	env := new(ledgerfeedv1.Envelope)
	if err := proto.Unmarshal(data, env); err != nil {
		return nil, &InvalidError{Reason: "not a protobuf envelope"}
	}
	if env.GetFormat() > Format {
		return nil, fmt.Errorf("%w: its format is %d, this one knows %d", ErrNewer, env.GetFormat(), Format)
	}
	if err := validate(env); err != nil {
		return nil, err
	}
	return env, nil
}

func validate(env *ledgerfeedv1.Envelope) error {
	switch {
	case env.GetId() == "":
		return &InvalidError{Field: "id", Reason: "is empty"}
	case env.GetRealmId() == "":
		return &InvalidError{Field: "realm_id", Reason: "is empty"}
	case len(env.GetEvents()) == 0:
		return &InvalidError{Field: "events", Reason: "is empty"}
	}
	if t := env.GetReceivedAt(); t != nil && !t.IsValid() {
		return &InvalidError{Field: "received_at", Reason: "is out of range"}
	}
	for i, e := range env.GetEvents() {
		if err := validateEvent(i, e); err != nil {
			return err
		}
	}
	return nil
}

func validateEvent(i int, e *ledgerfeedv1.Event) error {
	field := func(name string) string { return fmt.Sprintf("events[%d].%s", i, name) }
	switch {
	case e.GetEntity() == "":
		return &InvalidError{Field: field("entity"), Reason: "is empty"}
	case e.GetEntityId() == "":
		return &InvalidError{Field: field("entity_id"), Reason: "is empty"}
	}
	if t := e.GetOccurredAt(); t != nil && !t.IsValid() {
		return &InvalidError{Field: field("occurred_at"), Reason: "is out of range"}
	}
	return nil
}
