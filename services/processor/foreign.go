package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// appNames are the names that each app had before it was renamed, by the old name.
type appNames map[string]string

// parseAppNames reads processor.app_aliases: OLD=NEW.
func parseAppNames(entries []string) (appNames, error) {
	names := appNames{}
	var errs []error
	for _, entry := range entries {
		before, now, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok || before == "" || now == "" || before == now {
			errs = append(errs, fmt.Errorf("processor.app_aliases %q: give OLD=NEW, the name of the app before and now", entry))
			continue
		}
		names[before] = now
	}
	for before := range names {
		if _, more := names[names.of(before)]; more {
			errs = append(errs, fmt.Errorf("processor.app_aliases: the names of app %s lead back to it", before))
		}
	}
	return names, errors.Join(errs...)
}

// of is the name of an app now.
func (n appNames) of(app string) string {
	for range len(n) { // at most: names that lead back must not go on for ever
		now, ok := n[app]
		if !ok {
			break
		}
		app = now
	}
	return app
}

// foreignError says that an event is of another app than its realm. It is a permanent
// failure; it keeps the names for what counts such events.
type foreignError struct{ app, connected string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("the event is signed by app %s, and the company is connected to app %s", e.app, e.connected)
}

// refuseForeign takes the events out of the batch that another app than the realm's has
// signed: the token of a test app must not move a company of the production app. Where
// one of the names is missing nothing is known: scans, replays and versions before this
// one name no app.
func (p *Processor) refuseForeign(b *batch, connected string) {
	own := p.apps.of(connected)
	if own == "" {
		return
	}
	foreign := func(u *unit) bool {
		app := p.apps.of(u.from.env.GetApp())
		return app != "" && app != own
	}
	b.keep(func(it *item) bool {
		at := slices.IndexFunc(it.units, foreign)
		if at < 0 {
			return true
		}
		var others, ours []*unit
		for _, u := range it.units {
			if !foreign(u) {
				ours = append(ours, u)
				continue
			}
			u.err = stream.Permanent(stream.ReasonForeignApp, &foreignError{u.from.env.GetApp(), connected})
			others = append(others, u)
		}
		if len(ours) == 0 {
			return false
		}
		it.units = ours
		b.all = append(slices.Clip(b.all), &item{ref: it.ref, info: it.info, known: it.known, units: others})
		return true
	})
}

// foreign handles events of another app than the realm's. They change nothing, and the
// scans of the realm find what they may have been about. One letter a day tells of the
// realm and the app, whatever the app sends; what a person requeued gets a letter again.
func (p *Processor) foreign(ctx context.Context, m *message, d death) error {
	var cause *foreignError
	errors.As(d.units[0].err, &cause)
	p.count.foreign(len(d.events()))
	if d.units[0].replay() {
		return p.storeLetter(ctx, m, d)
	}
	note := state.Foreign{Realm: m.env.GetRealmId(), App: cause.app, Connected: cause.connected, Events: int64(len(d.events()))}
	first, err := p.state.NoteForeign(ctx, note)
	if err != nil {
		return paused(err)
	}
	if !first {
		return nil
	}
	// A crash here costs the letter of the day, which only tells of the app.
	if err := p.storeLetter(ctx, m, d); err != nil {
		return errors.Join(err, p.state.ForgetForeign(ctx, note.Realm, note.App))
	}
	return nil
}
