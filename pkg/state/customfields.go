package state

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// CustomFields says what is known of the custom fields of a realm: whether its records
// have more than CDC may show.
type CustomFields struct {
	// Enhanced: a record has custom fields that an answer leaves out unless it was asked
	// for all of them.
	Enhanced bool
	// CDC: a document of CDC has shown such a field, so that its documents are whole.
	CDC bool
	// Probed is when documents of CDC were last compared with a Query's, and were whole.
	Probed time.Time
	// Repair: documents that CDC has shown since then may lack fields at the sinks; zero
	// for none.
	Repair time.Time
}

// Whole reports whether a document of CDC holds all there is to know of a record. Before the
// first probe that is not known.
func (c CustomFields) Whole() bool { return c.CDC || !c.Enhanced && !c.Probed.IsZero() }

// The fields of the hash.
const (
	fieldsEnhanced = "enhanced"
	fieldsCDC      = "cdc"
	fieldsProbed   = "probed"
	fieldsRepair   = "repair"
)

func customFieldsKey(realm string) string { return Key("fields", realm) }

// CustomFields returns what is known of a realm.
func (s *Store) CustomFields(ctx context.Context, realm string) (CustomFields, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	held, err := s.db.HGetAll(ctx, customFieldsKey(realm)).Result()
	if err != nil {
		return CustomFields{}, fmt.Errorf("read the custom fields of realm %s: %w", realm, err)
	}
	at := func(field string) time.Time {
		n, _ := strconv.ParseInt(held[field], 10, 64) // 0: never
		return fromSeconds(n)
	}
	return CustomFields{
		Enhanced: held[fieldsEnhanced] != "", CDC: held[fieldsCDC] != "", Probed: at(fieldsProbed), Repair: at(fieldsRepair),
	}, nil
}

// NoteEnhancedFields records that a record of the realm has such fields. What CDC has shown
// since it was last probed is to be repaired, unless CDC is known to show all.
func (s *Store) NoteEnhancedFields(ctx context.Context, realm string) error {
	return s.noteFields(ctx, realm, func(ctx context.Context, key string) error {
		fresh, err := s.db.HSetNX(ctx, key, fieldsEnhanced, "1").Result()
		if err != nil || !fresh {
			return err
		}
		held, err := s.CustomFields(ctx, realm)
		if err != nil || held.CDC || held.Probed.IsZero() {
			return err
		}
		return s.db.HSet(ctx, key, fieldsRepair, seconds(held.Probed)).Err()
	})
}

// NoteCDCFields records that CDC shows all custom fields of the realm.
func (s *Store) NoteCDCFields(ctx context.Context, realm string) error {
	return s.noteFields(ctx, realm, func(ctx context.Context, key string) error {
		if err := s.db.HSet(ctx, key, fieldsEnhanced, "1", fieldsCDC, "1").Err(); err != nil {
			return err
		}
		return s.db.HDel(ctx, key, fieldsRepair).Err()
	})
}

// NoteFieldsProbed records that documents of CDC were whole at that time.
func (s *Store) NoteFieldsProbed(ctx context.Context, realm string, at time.Time) error {
	return s.noteFields(ctx, realm, func(ctx context.Context, key string) error {
		return s.db.HSet(ctx, key, fieldsProbed, seconds(at)).Err()
	})
}

// EndFieldsRepair records that nothing is to be repaired any more.
func (s *Store) EndFieldsRepair(ctx context.Context, realm string) error {
	return s.noteFields(ctx, realm, func(ctx context.Context, key string) error {
		return s.db.HDel(ctx, key, fieldsRepair).Err()
	})
}

func (s *Store) noteFields(ctx context.Context, realm string, note func(ctx context.Context, key string) error) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := note(ctx, customFieldsKey(realm)); err != nil {
		return fmt.Errorf("record the custom fields of realm %s: %w", realm, err)
	}
	return nil
}
