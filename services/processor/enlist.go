package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// filterLease is how long the others leave it to a replica that has died meanwhile to
// load what a filter kept back.
const filterLease = 30 * time.Second

// names are the configured sinks.
func (p *Processor) names() (names []string) {
	for _, out := range p.outputs {
		names = append(names, out.Name())
	}
	return names
}

// sinkConfig stands for the configuration of the sinks: their names and filters.
func (p *Processor) sinkConfig() string {
	var lines []string
	for _, out := range p.outputs {
		lines = append(lines, out.Name()+"\x00"+out.filter.text())
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\x01")))
	return hex.EncodeToString(sum[:8])
}

// enlist makes the configured sinks the ones that scans compare with: all
// replicas share one configuration. A sink that is new has to be loaded from the
// beginning: the cursors say what the others have, and are forgotten.
func (p *Processor) enlist(ctx context.Context) error {
	// Before the registration, or a replica of another configuration would take it for
	// one that nobody uses any more.
	if _, err := p.state.UseConfig(ctx, durableName, p.affinity.members.ID(), p.sinkConfig()); err != nil {
		return err
	}
	known, err := p.state.Sinks(ctx)
	if err != nil {
		return err
	}
	last, err := p.state.Registration(ctx)
	if err != nil {
		return err
	}
	names := p.names()
	var added []string
	for _, name := range names {
		// A crash between the registration and the rewind after it leaves a sink that
		// is in the set and not in the last registration.
		_, loaded := last.Filters[name]
		if !slices.Contains(known, name) || last.Config != "" && !loaded {
			added = append(added, name)
		}
	}
	for _, name := range known {
		if !slices.Contains(names, name) {
			p.log.Warn("sink no longer configured; its changes stay on its retry queue", telemetry.Sink(name))
		}
	}
	// Before and after: a crash in between leaves the sink unknown, so that the
	// next start does it again; a scan that ended in between knew nothing of it.
	if len(added) > 0 {
		p.log.Info("new sinks registered; loading all realms", telemetry.Sink(strings.Join(added, ", ")))
		if err := p.rewind(ctx); err != nil {
			return err
		}
	}
	if len(added) > 0 || len(known) != len(names) {
		if _, err := p.state.SetSinks(ctx, names); err != nil {
			return err
		}
	}
	if len(added) > 0 {
		if err := p.rewind(ctx); err != nil {
			return err
		}
	}
	return p.register(ctx, last, added)
}

// register keeps the configuration as the last one. The filter of a sink that is not new
// stays what it was, see loadFiltered.
func (p *Processor) register(ctx context.Context, last state.Registration, added []string) error {
	next := state.Registration{Config: p.sinkConfig(), Filters: map[string]string{}}
	for _, out := range p.outputs {
		filter, ok := last.Filters[out.Name()]
		if !ok || slices.Contains(added, out.Name()) {
			filter = out.filter.text()
		}
		next.Filters[out.Name()] = filter
	}
	if next.Config == last.Config && maps.Equal(next.Filters, last.Filters) {
		return nil
	}
	return p.state.SetRegistration(ctx, next)
}

func (p *Processor) rewind(ctx context.Context) error {
	realms, err := p.connections.List(ctx)
	if err != nil {
		return err
	}
	for _, realm := range realms {
		if err := p.state.RewindCursors(ctx, realm, nil, time.Time{}); err != nil {
			return err
		}
		if err := p.state.ScheduleIn(ctx, realm, 0); err != nil {
			return err
		}
	}
	return nil
}

// enlistAgain makes the sinks known again that Redis has forgotten, all of them or one:
// scans compare with those it knows, and cursors claim no more. The configuration that was
// registered last counts while a replica runs with it: what that has taken off the list
// is left off it by replicas that have not been replaced yet. Once there is none, as after
// an upgrade that was taken back, those that are left register theirs.
func (p *Processor) enlistAgain(ctx context.Context) error {
	config := p.sinkConfig()
	configs, err := p.state.UseConfig(ctx, durableName, p.affinity.members.ID(), config)
	if err != nil {
		return err
	}
	last, err := p.state.Registration(ctx)
	if err != nil {
		return err
	}
	if last.Config != config && slices.Contains(slices.Collect(maps.Values(configs)), last.Config) {
		return nil
	}
	known, err := p.state.Sinks(ctx)
	if err != nil {
		return err
	}
	if last.Config == config && slices.Equal(known, slices.Sorted(slices.Values(p.names()))) {
		return p.loadFiltered(ctx, last, configs)
	}
	p.log.Warn("sinks registered again", telemetry.Sink(strings.Join(p.names(), ", ")))
	return p.enlist(ctx)
}

// loadFiltered loads what the last filter of a sink has kept back and its present one
// does not. It waits until all replicas have the present one: another would keep it back
// once more.
func (p *Processor) loadFiltered(ctx context.Context, last state.Registration, configs map[string]string) error {
	var changed []*output
	for _, out := range p.outputs {
		if last.Filters[out.Name()] != out.filter.text() {
			changed = append(changed, out)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	replicas, err := p.state.Replicas(ctx, durableName)
	if err != nil {
		return err
	}
	for _, id := range replicas {
		if configs[id] != last.Config {
			return nil
		}
	}
	lease, err := p.state.Lease(ctx, "filters", filterLease)
	if errors.Is(err, state.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = lease.Release(ctx) }() // it runs out by itself
	// What another replica has done meanwhile is not done again.
	if last, err = p.state.Registration(ctx); err != nil || last.Config != p.sinkConfig() {
		return err
	}
	for _, out := range changed {
		if last.Filters[out.Name()] == out.filter.text() {
			continue
		}
		before, err := filterOf(last.Filters[out.Name()])
		if err != nil {
			return err
		}
		if err := p.unfilter(ctx, lease, out, before); err != nil {
			return err
		}
		last.Filters[out.Name()] = out.filter.text()
		if err := p.state.SetRegistration(ctx, last); err != nil {
			return err
		}
	}
	return nil
}

// unfilter takes back the marks that a filter has made in place of a delivery, and has
// the realms scanned from the beginning for them. A mark does not say which of the two it
// is: the sink is given all again that the filter may have kept back.
func (p *Processor) unfilter(ctx context.Context, lease *state.Lease, out *output, before filter) error {
	realms, err := p.connections.List(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, realm := range realms {
		if err := lease.Renew(ctx); err != nil {
			return err
		}
		unread, unwanted := before.keptBack(out.filter, realm)
		if len(unread)+len(unwanted) == 0 {
			continue
		}
		n++
		if err := p.state.DropMarks(ctx, realm, out.Name(), unread); err != nil {
			return err
		}
		for _, name := range unwanted {
			if err := p.ageMarks(ctx, realm, out.Name(), name); err != nil {
				return err
			}
		}
		if err := p.state.RewindCursors(ctx, realm, append(unread, unwanted...), time.Time{}); err != nil {
			return err
		}
		if err := p.state.ScheduleIn(ctx, realm, 0); err != nil {
			return err
		}
	}
	p.log.Info("sink filter widened; loading realms", telemetry.Sink(out.Name()), telemetry.Count(n))
	return nil
}

// ageMarks makes marks say that the sink has an old state of each record: it may hold
// any of them, so that a sweep tells it which are gone.
func (p *Processor) ageMarks(ctx context.Context, realm, sink, name string) error {
	for page, err := range p.state.MarkPages(ctx, realm, sink, name) {
		if err != nil {
			return err
		}
		var aged []state.Lower
		for _, m := range page {
			aged = append(aged, state.Lower{HeldMark: m, To: 1})
		}
		if _, err := p.state.LowerMarks(ctx, realm, sink, name, aged); err != nil {
			return err
		}
	}
	return nil
}

// keptBack are the entities of a realm of which f has kept back what next does not: all
// of their changes, or some.
func (f filter) keptBack(next filter, realm string) (unread, unwanted []string) {
	more := f.operations != nil && (next.operations == nil || !subset(next.operations, f.operations))
	for _, info := range entity.All() {
		switch {
		case !next.reads(realm, info.Name):
		case !f.reads(realm, info.Name):
			unread = append(unread, info.Name)
		case more:
			unwanted = append(unwanted, info.Name)
		}
	}
	return unread, unwanted
}

func subset(a, b map[string]bool) bool {
	for value := range a {
		if !b[value] {
			return false
		}
	}
	return true
}

// text spells a filter as parseFilters reads it, in one way; empty is none.
func (f filter) text() string {
	var fields []string
	for _, one := range []struct {
		key string
		set map[string]bool
	}{{"realm", f.realms}, {"entity", f.entities}, {"operation", f.operations}} {
		if one.set != nil {
			fields = append(fields, one.key+"="+strings.Join(slices.Sorted(maps.Keys(one.set)), "|"))
		}
	}
	return strings.Join(fields, " ")
}

func filterOf(text string) (filter, error) {
	if text == "" {
		return filter{}, nil
	}
	_, f, err := parseFilter("sink " + text)
	return f, err
}
