package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// fault is one thing that can go wrong.
type fault struct {
	name string
	// group is what it is done to: of a group one fault at a time is in force.
	group string
	// kills is how many processes it ends without their being asked.
	kills       int
	least, most time.Duration
	effects     effects
	weight      int
	// steers: it needs a replica that can be steered while it runs.
	steers bool
	// pools: it needs a pooler in front of the database.
	pools bool
	// redis names the kinds of Redis that it can be done to; "" is any.
	redis string
	begin func(ctx context.Context, r *run, rng *rand.Rand) (end func(context.Context) error, about string, err error)
}

// effects are what a fault may do that a check has to allow for.
type effects struct {
	// repeats: what was delivered may be delivered once more: a process, a link or
	// an answer is lost on the way.
	repeats bool
	// forgets: Redis loses what it has acknowledged.
	forgets bool
	// loses: the broker loses what it has acknowledged.
	loses bool
	// lapses: a realm's authorisation ends, and a person connects it again.
	lapses bool
	// corrupts: bytes are lost on the way, so that a signed body may look broken.
	corrupts bool
	// withholds: a sink asks to be left alone for longer than the run lasts.
	withholds bool
	// hides: the API does not show records that are there.
	hides bool
	// silent: documents change, and no version, webhook or answer of CDC tells.
	silent bool
	// refuses: QuickBooks refuses an entity or a company for a while. Its events wait, or a
	// scan finds them once a person has had it asked again.
	refuses bool
	// fills: a stream has no room, and what it would hold is left to scans.
	fills bool
}

func (e effects) and(o effects) effects {
	return effects{
		repeats: e.repeats || o.repeats, forgets: e.forgets || o.forgets, loses: e.loses || o.loses, lapses: e.lapses || o.lapses,
		corrupts: e.corrupts || o.corrupts, withholds: e.withholds || o.withholds, hides: e.hides || o.hides,
		silent: e.silent || o.silent, fills: e.fills || o.fills, refuses: e.refuses || o.refuses,
	}
}

// Faults are the names of all there are, in the order of the help.
func Faults() []string {
	var names []string
	for _, f := range catalogue() {
		names = append(names, f.name)
	}
	return names
}

func catalogue() []fault {
	return slices.Concat(processFaults(), linkFaults(), serverFaults(), bookFaults(), misleadingFaults(), sinkFaults(), scanFaults(), fullFaults(), refusalFaults(),
		postgresFaults(), redisFaults(), streamFaults())
}

// planned is a fault at its place in a run.
type planned struct {
	fault
	at, length time.Duration
	seed       uint64 // of what it draws
}

const (
	calmBefore = 2 * time.Second // at the start, so that something is under way
	calmAfter  = 3 * time.Second // at the end of the load: the last fault ends within it
	gapLeast   = 300 * time.Millisecond
	gapMost    = 2500 * time.Millisecond
	// disasterEvery is the least between two losses of what Redis or the brokers have
	// acknowledged, in runs that are longer. After one, all that there is is read again,
	// which takes the longer the more the load has made, and a second one meanwhile
	// begins it anew; and nobody restores a broker from a copy once a minute.
	disasterEvery = 10 * time.Minute
)

// schedule draws the faults of a run of that length. The same seed draws the same.
func schedule(seed uint64, length time.Duration, from []fault) []planned {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	busy := map[string]time.Duration{}
	disaster := -disasterEvery
	var plan []planned
	end := length - calmAfter
	for at := calmBefore; at < end && len(from) > 0; at += gapLeast + span(rng, gapMost-gapLeast) {
		f := pick(rng, from)
		last := min(f.least+span(rng, f.most-f.least), end-at)
		own := rng.Uint64()
		if busy[f.group] > at || last < f.least {
			continue
		}
		if f.effects.forgets || f.effects.loses {
			if length > disasterEvery && at-disaster < disasterEvery {
				continue
			}
			disaster = at
		}
		busy[f.group] = at + last + time.Second
		plan = append(plan, planned{fault: f, at: at, length: last, seed: own})
	}
	return plan
}

// pick draws by weight.
func pick(rng *rand.Rand, from []fault) fault {
	sum := 0
	for _, f := range from {
		sum += f.weight
	}
	n := rng.IntN(sum)
	for _, f := range from {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return from[len(from)-1]
}

// span draws a duration from 0 to most.
func span(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most) + 1))
}

func choose[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// nothing is the end of a fault that ends by itself.
func nothing(context.Context) error { return nil }
