package chaos

import (
	"maps"
	"slices"
	"time"
)

// mutant says in which kind of run a planted bug does harm, and what it breaks.
type mutant struct {
	faults []string
	speed  float64       // of Intuit's clock
	scans  time.Duration // interval of the scans
	breaks []string      // any of these invariants
	realms int           // companies, if not as many as usual
	rate   float64       // changes a second, if not as many as usual
	env    []string      // more settings of the processors
	// latency is that of an API call, if not as usual.
	latency time.Duration
}

// adjust makes o a run in which the bug can do harm.
func (m mutant) adjust(o *Options) {
	if m.realms > 0 {
		o.Realms = m.realms
	}
	if m.rate > 0 {
		o.Rate = m.rate
	}
}

// mutants are the bugs of package sabotage, by the name that CHAOS_BUG knows.
var mutants = map[string]mutant{
	"answer-before-ack": {faults: []string{"link-slow", "kill-broker", "broker-leader"}, speed: 1, scans: never, breaks: []string{"I1"}},
	"mark-before-write": {faults: []string{"sink-500", "kill-postgres", "kill-processor"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I2", "I3"}},
	"ack-before-mark":   {faults: []string{"kill-processor", "api-5xx", "api-429"}, speed: 1, scans: never, breaks: []string{"I2"}},
	"no-version-guard": {
		// A replica is stopped while it waits for an answer, and writes it late: an older
		// version over a newer one, or the same one a second time into the table's log.
		faults: []string{"pause-processor"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I3", "I5"}, latency: 500 * time.Millisecond,
	},
	"ties-dropped":       {faults: []string{"webhook-loss", "webhook-disorder", "restart-processor"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I2", "I3"}},
	"cursor-at-publish":  {faults: []string{"pause-processor", "webhook-loss", "webhook-outage", "sink-500", "kill-postgres"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I4"}},
	"cursor-by-event":    {faults: []string{"webhook-loss", "webhook-outage"}, speed: 30, scans: 8 * time.Second, breaks: []string{"I4"}},
	"truncated-accepted": {faults: []string{"flood-unheard"}, speed: 30, scans: 8 * time.Second, breaks: []string{"I4", "I3"}},
	"max-deliver":        {faults: []string{"api-5xx", "api-429", "kill-redis", "link-cut"}, speed: 1, scans: never, breaks: []string{"I2"}},
	"refresh-unleased":   {faults: []string{"token-expire"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I7"}},
	"limiter-apart": {
		faults: []string{"api-timeout"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I6"}, realms: 1, rate: 60,
		// Both replicas work on the one company, and no call serves two changes.
		env: []string{
			"LEDGERFEED_PROCESSOR_COALESCE_WINDOW=0s", "LEDGERFEED_PROCESSOR_BATCH_SIZE=1",
			"LEDGERFEED_PROCESSOR_REALM_PARALLEL=32", "LEDGERFEED_PROCESSOR_MAX_IN_HAND=1048576",
		},
	},
	"tombstone-dropped": {faults: []string{"webhook-loss"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I3"}},

	"deletion-unconfirmed":    {faults: []string{"wrong-deletes", "forged-deletes"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"failed-read-is-evidence": {faults: []string{"wrong-deletes", "forged-deletes", "api-5xx", "api-429"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"tombstone-final":         {faults: []string{"wrong-deletes", "forged-deletes", "read-lag"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"follow-up-dropped":       {faults: []string{"wrong-deletes", "forged-deletes", "read-lag"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"future-tombstone":        {faults: []string{"wrong-deletes", "forged-deletes", "read-lag"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"restored-without-force":  {faults: []string{"wrong-deletes", "forged-deletes", "read-lag"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	"content-ignored":         {faults: []string{"derived", "derived-silent"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I3"}},
	// Of two changes within a second the second one must be delivered after the first.
	"token-ignored": {faults: []string{"backward-time"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I3"}, realms: 1, rate: 100},
	// The table takes nothing while the endpoint refuses the same changes, and a cursor passes them.
	"dead-letter-hides-all-sinks":      {faults: []string{"sink-422", "table-locked"}, speed: 100, scans: 4 * time.Second, breaks: []string{"I4", "I3"}},
	"dead-letter-never-ends":           {faults: []string{"sink-422"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I3"}},
	"full-retry-blocks":                {faults: []string{"retry-full"}, speed: 10, scans: 4 * time.Second, breaks: []string{"I9"}},
	"unknown-company-letter-per-event": {faults: []string{"unknown-companies", "unknown-flood"}, speed: 10, scans: 4 * time.Second, breaks: []string{"I9"}},
	"one-sweep-deletes":                {faults: []string{"read-lag-all"}, speed: 30, scans: 4 * time.Second, breaks: []string{"I15"}},
	// The deletion leaves the window of the scans while CDC tells no time of it.
	"invented-time-recent": {faults: []string{"bare-deletes", "webhook-outage", "webhook-loss"}, speed: 60, scans: 4 * time.Second, breaks: []string{"I4", "I3"}},
	"refusal-forgotten":    {faults: []string{"refuse-entity"}, speed: 10, scans: 2 * time.Second, breaks: []string{"I16"}},
	"refresh-on-every-401": {faults: []string{"fresh-401"}, speed: 1, scans: 4 * time.Second, breaks: []string{"I7"}},
	// A realm that is due next year is scanned by nobody.
	"clock-of-replica": {faults: []string{"clock-jump", "webhook-outage"}, speed: 10, scans: 2 * time.Second, breaks: []string{"I2", "I3"}, rate: 6},
	// Scans of a company come to their turn between its changes.
	"breaker-off":        {faults: []string{"records-hidden"}, speed: 150, scans: 2 * time.Second, breaks: []string{"I15"}, rate: 6},
	"cursor-rewind-lost": {faults: []string{"cursor-rewind"}, speed: 10, scans: 4 * time.Second, breaks: []string{"I4"}},
	"failover-stays":     {faults: []string{"postgres-failover"}, speed: 10, scans: 4 * time.Second, breaks: []string{"I2", "I3", "I11"}},
	"stale-read-covered": {faults: []string{"read-lag"}, speed: 30, scans: never, breaks: []string{"I2"}},
}

// Mutants are the names of the bugs that can be planted.
func Mutants() []string { return slices.Sorted(maps.Keys(mutants)) }
