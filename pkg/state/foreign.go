package state

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxForeign is how many pairs of a realm and an app are counted.
	maxForeign  = 10000
	foreignKey  = durable + "foreign"
	foreignLife = 30 * 24 * time.Hour
)

var (
	//go:embed foreign.lua
	foreignLua    string
	foreignScript = redis.NewScript(ClockLua + foreignLua)
)

// Foreign are events of one app about a realm that another app is connected to.
type Foreign struct {
	Realm string
	// App sent the events; Connected is the realm's.
	App, Connected string
	Events         int64
	First, Last    time.Time
}

// NoteForeign counts f.Events, and reports whether events of that app come for that realm
// for the first time that day, which [Store.ForgetForeign] takes back. Beyond 10,000 pairs
// nothing is counted, and it is false.
func (s *Store) NoteForeign(ctx context.Context, f Foreign) (bool, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	first, err := foreignScript.Run(ctx, s.db, []string{foreignKey},
		pairField(f.Realm, f.App), f.Events, f.Connected, s.now().UTC().Format(time.DateOnly), maxForeign, int(foreignLife/time.Second), s.ClockArg()).Bool()
	if err != nil {
		return false, fmt.Errorf("record events of app %s for realm %s: %w", f.App, f.Realm, err)
	}
	return first, nil
}

// ForgetForeign removes what is counted of an app and a realm: the next event is the first
// of the day again.
func (s *Store) ForgetForeign(ctx context.Context, realm, app string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.HDel(ctx, foreignKey, pairField(realm, app)).Err(); err != nil {
		return fmt.Errorf("delete events of app %s for realm %s: %w", app, realm, err)
	}
	return nil
}

// Foreign returns what was counted in the last 30 days, sorted by realm and app.
func (s *Store) Foreign(ctx context.Context) ([]Foreign, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	fields, err := s.db.HGetAll(ctx, foreignKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list events of other apps: %w", err)
	}
	all := make([]Foreign, 0, len(fields))
	for field, value := range fields {
		parts := strings.SplitN(value, ",", 5)
		if len(parts) < 5 {
			continue
		}
		f := Foreign{Connected: parts[4]}
		f.Realm, f.App = pairOf(field)
		f.Events, _ = strconv.ParseInt(parts[0], 10, 64)
		first, _ := strconv.ParseInt(parts[1], 10, 64)
		last, _ := strconv.ParseInt(parts[2], 10, 64)
		f.First, f.Last = fromMillis(first), fromMillis(last)
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Foreign) int { return strings.Compare(pairField(a.Realm, a.App), pairField(b.Realm, b.App)) })
	return all, nil
}
