package reconciler

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/sabotage"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

// verifier moves the cursors of remembered scans once all that was missing is
// delivered. It asks Redis only. What a scan still lacks is kept in memory, so
// that a check costs the same however much was missing.
type verifier struct {
	r *Reconciler

	mu      sync.Mutex          // guards pending
	pending map[string]*pending // by realm and scan id
}

// pending is a remembered scan.
type pending struct {
	realm string
	scan  state.Scan
	done  chan struct{} // closed when it is settled or forgotten

	mu        sync.Mutex         // guards what follows; one check at a time
	published map[state.Ref]bool // what the broker has acknowledged of it
	lacking   map[string][]state.Missing
	progress  time.Time // when something was last seen delivered
	settled   bool      // all cursors have moved
	over      bool      // done is closed
}

func newVerifier(r *Reconciler) *verifier {
	return &verifier{r: r, pending: map[string]*pending{}}
}

// remember keeps a scan in Redis and puts it under watch, before or after its
// events are published; setPublished tells.
func (v *verifier) remember(ctx context.Context, realm string, scan state.Scan) (*pending, error) {
	p := v.newPending(realm, scan)
	p.mu.Lock() // nobody may check it before Redis has it
	defer p.mu.Unlock()
	v.mu.Lock()
	v.pending[p.key()] = p
	v.mu.Unlock()
	if err := v.r.state.SaveScan(ctx, realm, scan); err != nil {
		v.unwatch(p)
		return nil, fmt.Errorf("save the scan: %w", err)
	}
	return p, nil
}

func (p *pending) key() string { return p.realm + "/" + p.scan.ID }

func (p *pending) setPublished(refs map[state.Ref]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = refs
}

func (v *verifier) newPending(realm string, scan state.Scan) *pending {
	p := &pending{
		realm:    realm,
		scan:     scan,
		done:     make(chan struct{}),
		lacking:  map[string][]state.Missing{},
		progress: v.r.now(),
	}
	for entity := range scan.Cursors {
		p.lacking[entity] = nil
	}
	for _, m := range scan.Missing {
		p.lacking[m.Entity] = append(p.lacking[m.Entity], m)
	}
	p.scan.Missing = nil // lacking is what counts from here on
	return p
}

// adopt puts the realm's scans that Redis remembers and nobody here watches
// under watch: those of a process that has ended.
func (v *verifier) adopt(ctx context.Context, realm string) error {
	scans, err := v.r.state.Scans(ctx, realm)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, scan := range scans {
		p := v.newPending(realm, scan)
		if _, ok := v.pending[p.key()]; !ok {
			v.pending[p.key()] = p
		}
	}
	return nil
}

// underway returns the changes of the realm that an unverified scan has put on
// the stream. Once that scan is forgotten they are put there again.
func (v *verifier) underway(realm string) map[state.Ref]int64 {
	all := map[state.Ref]int64{}
	for _, p := range v.watched() {
		if p.realm == realm {
			p.addTo(all)
		}
	}
	return all
}

func (p *pending) addTo(all map[state.Ref]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lacking := range p.lacking {
		for _, m := range lacking {
			if p.published[m.Ref] {
				all[m.Ref] = max(all[m.Ref], m.Version)
			}
		}
	}
}

// open is the number of scans that wait to be verified.
func (v *verifier) open() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.pending)
}

func (v *verifier) watched() []*pending {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]*pending, 0, len(v.pending))
	for _, p := range v.pending {
		all = append(all, p)
	}
	return all
}

// checkAll checks every scan under watch.
func (v *verifier) checkAll(ctx context.Context) error {
	watched := v.watched()
	if len(watched) == 0 {
		return nil
	}
	sinks, err := v.r.state.Sinks(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range watched {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := v.check(ctx, p, sinks); err != nil {
			errs = append(errs, fmt.Errorf("verify realm %s: %w", p.realm, err))
		}
	}
	return errors.Join(errs...)
}

// check moves the cursors of the entities of which nothing is lacking any more,
// and forgets the scan when that is all of them, when it stands still, or when
// it does not speak for all sinks of now.
func (v *verifier) check(ctx context.Context, p *pending, sinks []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	if v.r.erased(ctx, p.realm) {
		v.drop(p)
		return nil
	}
	if !strings.HasSuffix(p.scan.ID, "-"+tag(sinks)) {
		return v.forget(ctx, p, "the sinks have changed")
	}
	moved := map[string]time.Time{}
	for entity, lacking := range p.lacking {
		rest, err := v.lacking(ctx, p.realm, sinks, lacking)
		if err != nil {
			return err
		}
		if len(rest) < len(lacking) {
			p.progress = v.r.now()
		}
		p.lacking[entity] = rest
		if len(rest) == 0 {
			moved[entity] = p.scan.Cursors[entity]
		}
	}
	if len(moved) > 0 {
		sabotage.At(sabotage.ScanVerified)
		done, err := v.move(ctx, p.realm, p.scan.ID, state.Move{
			Generation: p.scan.Generation, Scan: p.scan.ID, From: p.scan.From, To: moved,
		})
		if err != nil {
			return err
		}
		sabotage.At(sabotage.CursorMoved)
		if done < len(moved) {
			return v.forget(ctx, p, "its cursors were rewound")
		}
		for entity := range moved {
			delete(p.lacking, entity)
		}
	}
	switch {
	case len(p.lacking) == 0:
		p.settled = true
		return v.end(ctx, p)
	case v.r.now().Sub(p.progress) > v.r.config.VerifyTimeout:
		return v.forget(ctx, p, "its changes are not delivered")
	}
	return nil
}

// lacking returns the changes that are not delivered yet. It looks from the
// front, in the order they were published, and stops where they begin to lack.
func (v *verifier) lacking(ctx context.Context, realm string, sinks []string, changes []state.Missing) ([]state.Missing, error) {
	for len(changes) > 0 {
		n := min(len(changes), maxRows)
		lacks, err := v.r.lacks(ctx, realm, sinks, changes[:n])
		if err != nil {
			return nil, err
		}
		rest := pick(changes[:n], lacks)
		if len(rest) > 0 {
			return append(rest, changes[n:]...), nil
		}
		changes = changes[n:]
	}
	return nil, nil
}

// move moves cursors of a scan and returns how many. What was rewound since the scan
// began stays (see state.MoveCursors), and so does everything where other sinks are
// registered by now: what the scan knows is then not enough. A sink that is registered
// after this look is followed by a rewind, which the move does not survive.
func (v *verifier) move(ctx context.Context, realm, scan string, m state.Move) (int, error) {
	if len(m.To) == 0 {
		return 0, nil
	}
	sinks, err := v.r.state.Sinks(ctx)
	if err != nil {
		return 0, err
	}
	if !strings.HasSuffix(scan, "-"+tag(sinks)) {
		v.r.log.Info("sinks registered during the scan; cursors are kept", telemetry.Realm(realm))
		return 0, nil
	}
	moved, err := v.r.state.MoveCursors(ctx, realm, m)
	if err != nil {
		return 0, err
	}
	if len(moved) < len(m.To) {
		v.r.log.Info("cursors rewound during the scan; not advanced", telemetry.Realm(realm), telemetry.Count(len(m.To)-len(moved)))
	}
	now, err := v.r.state.Cursors(ctx, realm)
	if err != nil {
		return 0, err
	}
	v.r.note(realm, now)
	v.r.metrics.moved.Add(float64(len(moved)))
	return len(moved), nil
}

// forget drops a scan without moving its cursors: the next one finds again what
// is still missing.
func (v *verifier) forget(ctx context.Context, p *pending, why string) error {
	lacking := 0
	for _, changes := range p.lacking {
		lacking += len(changes)
	}
	v.r.metrics.forgotten.Inc()
	v.r.log.Warn("scan abandoned; cursors are kept", telemetry.Realm(p.realm), telemetry.Reason(why),
		telemetry.Count(lacking), telemetry.At(p.scan.Time))
	return v.end(ctx, p)
}

// end takes a scan off the watch and out of Redis.
func (v *verifier) end(ctx context.Context, p *pending) error {
	if err := v.r.state.DropScan(ctx, p.realm, p.scan.ID); err != nil {
		return err
	}
	v.drop(p)
	return nil
}

func (v *verifier) drop(p *pending) {
	v.unwatch(p)
	p.over = true
	close(p.done)
}

func (v *verifier) unwatch(p *pending) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pending, p.key())
}

// wait returns when the scan is settled or forgotten, or ctx ends; true if it
// is settled. It checks by itself, so that it works without Run.
func (v *verifier) wait(ctx context.Context, p *pending) (bool, error) {
	tick := time.NewTicker(v.r.config.VerifyEvery)
	defer tick.Stop()
	for {
		// What fails is tried again with the next tick.
		if sinks, err := v.r.state.Sinks(ctx); err == nil {
			_ = v.check(ctx, p, sinks)
		}
		p.mu.Lock()
		over, settled := p.over, p.settled
		p.mu.Unlock()
		if over {
			return settled, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-p.done:
		case <-tick.C:
		}
	}
}

// tag stands for a set of sinks in the id of a scan.
func tag(sinks []string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(strings.Join(slices.Sorted(slices.Values(sinks)), "\x00"))))
}
