package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pace is what the schedule knows of a realm: when it was scanned, and how much
// changes there. Times are ours, in whole seconds.
type Pace struct {
	Scanned time.Time // the last scan that went through
	Full    time.Time // the last one that covered what only Query can find, too
	Changed time.Time // when a scan last saw a change
	PerDay  int       // changes a day, averaged
}

// Pace returns what is known of a realm; the zero value for nothing.
func (s *Store) Pace(ctx context.Context, realm string) (Pace, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	text, err := s.db.Get(ctx, Key("pace", realm)).Result()
	if errors.Is(err, redis.Nil) {
		return Pace{}, nil
	}
	var p Pace
	if err == nil {
		p, err = parsePace(text)
	}
	if err != nil {
		return Pace{}, fmt.Errorf("read the pace of realm %s: %w", realm, err)
	}
	return p, nil
}

func parsePace(text string) (Pace, error) {
	var scanned, full, changed int64
	var p Pace
	if _, err := fmt.Sscanf(text, "%d,%d,%d,%d", &scanned, &full, &changed, &p.PerDay); err != nil {
		return Pace{}, err
	}
	p.Scanned, p.Full, p.Changed = fromSeconds(scanned), fromSeconds(full), fromSeconds(changed)
	return p, nil
}

// SetPace keeps it.
func (s *Store) SetPace(ctx context.Context, realm string, p Pace) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.Set(ctx, Key("pace", realm), p.text(), 0).Err(); err != nil {
		return fmt.Errorf("save the pace of realm %s: %w", realm, err)
	}
	return nil
}

// KeepPace is SetPace by a scan that began in that generation. It keeps nothing once the
// cursors were rewound: the next scan covers everything.
func (s *Store) KeepPace(ctx context.Context, realm string, g Generation, p Pace) error {
	if _, err := s.ifGeneration(ctx, realm, g, "SET", Key("pace", realm), p.text()); err != nil {
		return fmt.Errorf("save the pace of realm %s: %w", realm, err)
	}
	return nil
}

func (p Pace) text() string {
	return fmt.Sprintf("%d,%d,%d,%d", seconds(p.Scanned), seconds(p.Full), seconds(p.Changed), p.PerDay)
}

func fromSeconds(s int64) time.Time {
	if s <= 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}
