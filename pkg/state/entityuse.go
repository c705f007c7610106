package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// EntityUse says whether a realm uses an entity that CDC leaves out, so that each look
// at it is a call of its own. Losing it costs calls, never a change.
type EntityUse struct {
	// Used: the realm has, or once had, records of it.
	Used bool
	// Counted is when its records were last counted, by Intuit's clock, in whole seconds.
	// If Used, it is the count that first found some, until they have been loaded; zero
	// after that.
	Counted time.Time
	// Changed is when a record of it last changed, in whole seconds; zero if that is not
	// known. An entity that sends no webhooks is read as often as it changes.
	Changed time.Time
}

// EntityUse returns what is known of a realm, by entity.
func (s *Store) EntityUse(ctx context.Context, realm string) (map[string]EntityUse, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, Key("use", realm)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the used entities of realm %s: %w", realm, err)
	}
	all := make(map[string]EntityUse, len(fields))
	for entity, text := range fields {
		used, rest, _ := strings.Cut(text, ",")
		counted, changed, _ := strings.Cut(rest, ",")
		at, err := strconv.ParseInt(counted, 10, 64)
		if err != nil {
			continue // unknown: it is counted again
		}
		since, _ := strconv.ParseInt(changed, 10, 64) // 0: not known
		all[entity] = EntityUse{Used: used == "1", Counted: fromSeconds(at), Changed: fromSeconds(since)}
	}
	return all, nil
}

// SetEntityUse records it for the given entities and leaves the others as they are.
func (s *Store) SetEntityUse(ctx context.Context, realm string, uses map[string]EntityUse) error {
	if len(uses) == 0 {
		return nil
	}
	fields := make([]any, 0, 2*len(uses))
	for entity, u := range uses {
		used := "0"
		if u.Used {
			used = "1"
		}
		text := fmt.Sprintf("%s,%d", used, seconds(u.Counted))
		if !u.Changed.IsZero() {
			text += fmt.Sprintf(",%d", seconds(u.Changed))
		}
		fields = append(fields, entity, text)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HSet(ctx, Key("use", realm), fields...).Err(); err != nil {
		return fmt.Errorf("record the used entities of realm %s: %w", realm, err)
	}
	return nil
}

// Delivered returns those of the entities of which some sink has a mark in the realm.
func (s *Store) Delivered(ctx context.Context, realm string, sinks, entities []string) (map[string]bool, error) {
	delivered := make(map[string]bool)
	if len(sinks) == 0 || len(entities) == 0 {
		return delivered, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pipe := s.db.Pipeline()
	exist := make(map[string]func() int64, len(entities))
	for _, entity := range entities {
		keys := make([]string, len(sinks))
		for i, sink := range sinks {
			keys[i] = markKey(realm, sink, entity)
		}
		exist[entity] = pipe.Exists(ctx, keys...).Val
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("find marks of %d entities of realm %s: %w", len(entities), realm, err)
	}
	for entity, n := range exist {
		if n() > 0 {
			delivered[entity] = true
		}
	}
	return delivered, nil
}
