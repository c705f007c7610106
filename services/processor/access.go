package processor

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
)

// waitsFor is how long a realm is refused before its events are left to the scan that
// follows: until then they wait aside, and are delivered as soon as Intuit answers.
const waitsFor = 24 * time.Hour

// admitted stops the batch of a realm that Intuit refuses, or whose app it refuses.
func (p *Processor) admitted(ctx context.Context, b *batch) error {
	err := p.guard.Admit(ctx, b.realm)
	var wait *access.WaitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wait):
		p.holdBack(b.items, wait)
		b.items = nil
		return nil
	case errors.Is(err, connection.ErrParked), errors.Is(err, connection.ErrReauthRequired), errors.Is(err, connection.ErrNotConnected):
		return errParked // since a moment ago
	case errors.Is(err, context.Canceled):
		return err
	}
	return paused(err)
}

// holdBack has events wait until Intuit answers.
func (p *Processor) holdBack(items []*item, wait *access.WaitError) {
	for _, it := range items {
		for _, u := range it.open() {
			u.err = p.holding(u, wait)
		}
	}
}

// holding is the outcome of one that waits. After a day it is acknowledged like one of a
// parked realm, unless no scan would find it: the queue is for what can soon be delivered.
func (p *Processor) holding(u *unit, wait *access.WaitError) error {
	if wait.State.Refused() && p.now().Sub(wait.Since) > waitsFor && u.scanned() {
		return errParked
	}
	after := wait.After
	if p.accessDelay > 0 {
		after = p.accessDelay
	}
	return stream.RetryAfter(wait, after/2+rand.N(after/2+1))
}

// hydrateUnlessRefused is hydrate, and finds out whether what Intuit refused is the realm
// or the app: then nothing of it is a dead letter, and nobody asks until it is over.
func (p *Processor) hydrateUnlessRefused(ctx context.Context, b *batch) error {
	if err := p.hydrate(ctx, b); err != nil {
		return err
	}
	entity, cause := b.refusal()
	if cause == nil {
		return nil
	}
	var wait *access.WaitError
	if err := p.guard.Refused(ctx, b.realm, entity, cause); !errors.As(err, &wait) {
		return nil // what each event has for an outcome stands
	}
	for _, it := range b.items {
		for _, u := range it.units {
			if maybeRefused(u.err) {
				u.err = p.holding(u, wait)
			}
		}
	}
	return nil
}

// refusal is the first error of the batch that may be about the realm, and the entity it
// came up at.
func (b *batch) refusal() (entity string, cause error) {
	for _, it := range b.items {
		for _, u := range it.units {
			if maybeRefused(u.err) {
				return it.ref.Entity, u.err
			}
		}
	}
	return "", nil
}

// maybeRefused reports whether err may be about the realm or the app as a whole.
func maybeRefused(err error) bool {
	switch qbo.MeaningOf(err) {
	case qbo.MeaningCompanyAccess, qbo.MeaningAppProblem, qbo.MeaningTokenProblem:
		return true
	}
	return false
}
