package qbo

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// Entity is one record as the API returned it.
type Entity struct {
	// Name is the entity as the API spells it ("CreditMemo"); one that package
	// entity does not know stays as received.
	Name string
	// ID is unique within its entity and realm only. It is the record's Id, or its key
	// where it has none (see WithIDs). It is never empty in a result; objects without
	// one are in NoID.
	ID string
	// SyncToken grows with every write; empty on a deletion.
	SyncToken string
	// LastUpdated has whole seconds as a rule; UTC; zero if the record carries none.
	LastUpdated time.Time
	// NoTime says that a deletion came without a time, and that LastUpdated is when the
	// API answered: it happened at any time before.
	NoTime bool
	// Deleted is CDC's status "Deleted". A name list record that was deleted is
	// not: it is an update with Active false.
	Deleted bool
	// Raw is the whole JSON object, byte for byte.
	Raw json.RawMessage
}

// Version is Version of the record's fields.
func (e Entity) Version() int64 { return Version(e.LastUpdated, e.SyncToken, e.Deleted) }

// decodeEntity reads out of one JSON object what a feed needs. Fields of a wrong
// type count as missing: the record as a whole is the sink's to judge.
func decodeEntity(name string, raw json.RawMessage) (Entity, error) {
	s := scanner{raw: raw}
	return s.entity(name)
}

// entity takes one record.
func (s *scanner) entity(name string) (Entity, error) {
	if s.space(); s.next() != '{' {
		return Entity{}, fmt.Errorf("%w: %s is not an object", ErrMalformed, name)
	}
	start := s.at
	var f fields
	var err error
	switch name {
	case recurringTransaction:
		raw, ok := s.value()
		if _, inner, wrapped := unwrap(raw); wrapped {
			raw = inner
		}
		if err = errInvalid; ok {
			err = members(raw, f.take)
		}
	case exchangeRate:
		err = s.members(f.takeRate)
		f.id = text(rateKey(string(f.currency), string(f.date)))
	default:
		err = s.members(f.take)
	}
	if err != nil {
		return Entity{}, fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return Entity{
		Name:        name,
		ID:          strings.TrimSpace(string(f.id)),
		SyncToken:   string(f.token),
		LastUpdated: parseTime(string(f.updated)),
		Deleted:     strings.EqualFold(string(f.status), "Deleted"),
		Raw:         s.raw[start:s.at:s.at],
	}, nil
}

// fields are the members of a record that a feed needs.
type fields struct {
	id, token, status, updated text
	currency, date             text // of an ExchangeRate
}

func (f *fields) take(key []byte, value json.RawMessage) error {
	switch {
	case is(key, "Id"):
		return f.id.UnmarshalJSON(value)
	case is(key, "SyncToken"):
		return f.token.UnmarshalJSON(value)
	case is(key, "status"):
		return f.status.UnmarshalJSON(value)
	case is(key, "MetaData") && value[0] == '{':
		return members(value, func(key []byte, value json.RawMessage) error {
			if is(key, "LastUpdatedTime") {
				return f.updated.UnmarshalJSON(value)
			}
			return nil
		})
	}
	return nil
}

func (f *fields) takeRate(key []byte, value json.RawMessage) error {
	switch {
	case is(key, "SourceCurrencyCode"):
		return f.currency.UnmarshalJSON(value)
	case is(key, "AsOfDate"):
		return f.date.UnmarshalJSON(value)
	}
	return f.take(key, value)
}

// block is one QueryResponse object: a list of records under their entity's
// name, and counts beside it.
type block struct {
	entities      map[string][]Entity // by canonical name; a name with no records stays
	order         []string            // the names in a stable order
	startPosition int
	maxResults    int
	totalCount    int
}

func decodeBlock(members map[string]json.RawMessage) (block, error) {
	b := block{entities: map[string][]Entity{}}
	for key, raw := range members {
		switch strings.ToLower(key) {
		case "":
			return block{}, fmt.Errorf("%w: a list without the name of its entity", ErrMalformed)
		case "startposition":
			b.startPosition = number(raw)
			continue
		case "maxresults":
			b.maxResults = number(raw)
			continue
		case "totalcount":
			b.totalCount = number(raw)
			continue
		case "fault":
			if f := decodeFaultValue(raw); f != nil {
				return block{}, f
			}
			continue
		}
		_, known := entity.Lookup(key)
		// A lone object where a list belongs counts only under a name that is
		// known to be an entity; it could be a warning.
		if isArray := len(raw) > 0 && raw[0] == '['; !isArray && !known {
			continue
		}
		if err := b.add(entity.Canonical(key), raw); err != nil {
			return block{}, err
		}
	}
	slices.Sort(b.order)
	return b, nil
}

func (b *block) add(name string, raw json.RawMessage) error {
	records := b.entities[name]
	if records == nil {
		b.order = append(b.order, name)
		records = []Entity{}
	}
	s := scanner{raw: raw}
	for first := true; ; first = false {
		more, err := s.element(first)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		}
		if !more {
			break
		}
		e, err := s.entity(name)
		if err != nil {
			return err
		}
		records = append(records, e)
	}
	b.entities[name] = records
	return nil
}

// element takes what stands before the next element of a list. A single value is a list
// of itself, null an empty one.
func (s *scanner) element(first bool) (more bool, err error) {
	if len(s.raw) == 0 || s.raw[0] != '[' {
		return first && !s.over() && s.next() != 'n', nil
	}
	more, ok := s.more(']', first)
	if !ok {
		return false, errInvalid
	}
	return more, nil
}
