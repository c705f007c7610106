package chaos

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Options says what to run. Start from [DefaultOptions].
type Options struct {
	// Seed is that of the first run; the next run has the next one.
	Seed uint64
	// For is how long the books are changed and things go wrong, in each run. To
	// start and to settle takes its time besides.
	For  time.Duration
	Runs int
	// Faults are the names of those to draw from; none means all.
	Faults []string
	// Rate is the number of changes a second, over all companies.
	Rate float64
	// Realms is how many companies change; one more stays quiet.
	Realms int
	// Settle is how long the feed may take, after the last fault, to make all
	// sinks equal to the books.
	Settle time.Duration
	// Beside is another revision of this repository, as git names it: each service runs
	// now in its version, now in this one, the other at each start. "" is this one
	// alone.
	Beside string
	// Redis is how Redis is set up, one of [RedisKinds]; "" draws it from the seed.
	Redis string
	// Mutant is a bug to plant, see package sabotage; "" for none.
	Mutant string
	// Dir is where each run keeps its files while it runs; "" is the system's
	// directory for temporary files. Those of a run that fails stay.
	Dir string
	// Keep keeps the files of good runs too.
	Keep bool
	// JSON keeps everything but the last line off Stdout.
	JSON           bool
	Stdout, Stderr io.Writer
}

// DefaultOptions is one run of a minute with everything that can go wrong.
func DefaultOptions() Options {
	return Options{
		Seed: 1, For: time.Minute, Runs: 1, Rate: 40, Realms: 3, Settle: 4 * time.Minute,
		Stdout: io.Discard, Stderr: io.Discard,
	}
}

const (
	leastFor = 10 * time.Second
	maxRate  = 1000
)

// Validate names every option that cannot be used, by its flag.
func (o Options) Validate() error {
	var errs []error
	bad := func(ok bool, flag string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s %v: %s", flag, value, want))
		}
	}
	bad(o.For >= leastFor, "for", o.For, fmt.Sprintf("give at least %s", leastFor))
	bad(o.Runs >= 1, "runs", o.Runs, "give at least 1")
	bad(o.Rate > 0 && o.Rate <= maxRate, "rate", o.Rate, fmt.Sprintf("give changes a second up to %d", maxRate))
	bad(o.Realms >= 1 && o.Realms <= 100, "realms", o.Realms, "give a number from 1 to 100")
	bad(o.Settle >= leastFor, "settle", o.Settle, fmt.Sprintf("give at least %s", leastFor))
	known := Faults()
	for _, name := range o.Faults {
		bad(slices.Contains(known, name), "faults", name, "there is no such fault; there are "+strings.Join(known, ", "))
	}
	bad(o.Redis == "" || slices.Contains(RedisKinds(), o.Redis), "redis", o.Redis, "give one of "+strings.Join(RedisKinds(), ", "))
	if slices.Contains(RedisKinds(), o.Redis) {
		bad(len(fitting(o.faults(), o.Redis)) > 0, "faults", strings.Join(o.Faults, ","), "cannot be made with --redis "+o.Redis)
	}
	_, planted := mutants[o.Mutant]
	bad(o.Mutant == "" || planted, "mutant", o.Mutant, "there is no such bug; there are "+strings.Join(Mutants(), ", "))
	bad(o.Mutant == "" || o.Beside == "", "beside", o.Beside, "another version has no planted bugs; leave --mutant out")
	return errors.Join(errs...)
}

// faults are those to draw from.
func (o Options) faults() []fault {
	names := o.Faults
	if m, ok := mutants[o.Mutant]; ok && len(names) == 0 {
		names = m.faults
	}
	if len(names) == 0 {
		return catalogue()
	}
	return slices.DeleteFunc(catalogue(), func(f fault) bool { return !slices.Contains(names, f.name) })
}

// redisKind is how the run of a seed has Redis. Planted bugs are for a single one; another
// version may know no other.
func (o Options) redisKind(seed uint64) string {
	switch {
	case o.Redis != "":
		return o.Redis
	case o.Mutant != "" || o.Beside != "":
		return redisSingle
	}
	return drawRedis(rand.New(rand.NewPCG(seed, 0xcac4e)), o.faults())
}

// command repeats the run of a seed.
func (o Options) command(seed uint64) string {
	c := fmt.Sprintf("ledgerfeed chaos --seed %d --for %s --rate %v --realms %d", seed, o.For, o.Rate, o.Realms)
	if len(o.Faults) > 0 {
		c += " --faults " + strings.Join(o.Faults, ",")
	}
	if o.Redis != "" {
		c += " --redis " + o.Redis
	}
	if o.Mutant != "" {
		c += " --mutant " + o.Mutant
	}
	if o.Beside != "" {
		c += " --beside " + o.Beside
	}
	return c
}
