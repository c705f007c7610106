package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The verdicts on an invariant.
const (
	held    = "held"
	broken  = "broken"
	untried = "untried" // nothing happened that could have broken it
)

// Invariants are the names of what is judged, as in docs/architecture.md.
var Invariants = []string{"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "I16"}

// Result is what came of one run.
type Result struct {
	Seed                          uint64
	Changes, Faults, Kills        int
	Lost, Stale, Extra, Duplicate int
	// WrongTombstones are live records that a sink holds as deleted, ContentDiffers those
	// that it holds at the right version with another document: at the end.
	WrongTombstones, ContentDiffers int
	Doubles                         int // in the database
	Recovery                        time.Duration
	Invariants                      map[string]string
	// Problems are what is wrong, by invariant: some examples of each.
	Problems map[string][]string
	// Inconclusive says why the run proves nothing; empty if it does.
	Inconclusive string
	// Notes are what a reader should know: faults this machine does not permit.
	Notes []string
	// Dir is where the files are, kept unless the run is good.
	Dir string

	perMinute, concurrent, calls int
	crowdedAt                    time.Time // when there were as many at once
	took                         time.Duration
	speed                        float64
	scans                        time.Duration
	// everWrong are tombstones that were wrong at some time, longestWrong how long one was.
	everWrong    int
	longestWrong time.Duration
}

// Good says that the run was conclusive and nothing is wrong.
func (r Result) Good() bool {
	return r.Inconclusive == "" && len(r.Problems) == 0
}

// find says what became of an invariant.
func (r *Result) find(name string, tried bool, problems ...string) {
	switch {
	case len(problems) > 0:
		r.Invariants[name] = broken
		r.Problems[name] = append(r.Problems[name], some(problems)...)
	case tried:
		r.Invariants[name] = held
	default:
		r.Invariants[name] = untried
	}
}

const examples = 8

func some(all []string) []string {
	if len(all) <= examples {
		return all
	}
	return append(slices.Clone(all[:examples]), fmt.Sprintf("and %d more", len(all)-examples))
}

// String is the run in a few lines.
func (r Result) String() string {
	var b strings.Builder
	outcome := "good"
	switch {
	case len(r.Problems) > 0:
		outcome = "BROKEN"
	case r.Inconclusive != "":
		outcome = "INCONCLUSIVE: " + r.Inconclusive
	}
	fmt.Fprintf(&b, "seed %d: %s · %d changes, %d faults, %d kills · %d lost, %d stale, %d extra, %d wrong tombstones, %d other documents · %d wrong tombstones before, for %s at most · %d duplicates · recovered in %s · clock ×%v, scans every %s · at most %d calls/min, %d at once · took %s",
		r.Seed, outcome, r.Changes, r.Faults, r.Kills, r.Lost, r.Stale, r.Extra, r.WrongTombstones, r.ContentDiffers, r.everWrong, r.longestWrong.Round(100*time.Millisecond), r.Duplicate, r.Recovery.Round(10*time.Millisecond),
		r.speed, r.scans, r.perMinute, r.concurrent, r.took.Round(time.Second))
	var open []string
	for _, name := range Invariants {
		if r.Invariants[name] == untried {
			open = append(open, name)
		}
	}
	if len(open) > 0 {
		fmt.Fprintf(&b, " · untried: %s", strings.Join(open, " "))
	}
	for _, name := range Invariants {
		for _, p := range r.Problems[name] {
			fmt.Fprintf(&b, "\n  %s  %s", name, p)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n  note: %s", n)
	}
	return b.String()
}

// Summary is what came of all runs; as JSON it is the last line of the command.
type Summary struct {
	Runs    int `json:"runs"`
	Changes int `json:"changes"`
	Faults  int `json:"faults"`
	Kills   int `json:"kills"`
	Lost    int `json:"lost"`
	Stale   int `json:"stale"`
	Extra   int `json:"extra"`
	// WrongTombstones are live records that a sink holds as deleted at the end, and
	// ContentDiffers those of which it holds another document.
	WrongTombstones int `json:"wrong_tombstones"`
	ContentDiffers  int `json:"content_differs"`
	// WrongTombstoneMS is how long one was there in the meantime, at most.
	WrongTombstoneMS int64             `json:"wrong_tombstone_ms"`
	Duplicates       int               `json:"duplicates"`
	Invariants       map[string]string `json:"invariants"`
	// RecoveryMS is the worst time from the last fault to equality.
	RecoveryMS int64 `json:"recovery_ms"`
}

func newSummary() Summary {
	s := Summary{Invariants: map[string]string{}}
	for _, name := range Invariants {
		s.Invariants[name] = untried
	}
	return s
}

// add takes a run in: one that broke an invariant outweighs all that held it.
func (s *Summary) add(r Result) {
	s.Runs++
	s.Changes += r.Changes
	s.Faults += r.Faults
	s.Kills += r.Kills
	s.Lost += r.Lost
	s.Stale += r.Stale
	s.Extra += r.Extra
	s.WrongTombstones += r.WrongTombstones
	s.ContentDiffers += r.ContentDiffers
	s.WrongTombstoneMS = max(s.WrongTombstoneMS, r.longestWrong.Milliseconds())
	s.Duplicates += r.Duplicate
	s.RecoveryMS = max(s.RecoveryMS, r.Recovery.Milliseconds())
	for name, verdict := range r.Invariants {
		if verdict == broken || s.Invariants[name] == untried {
			s.Invariants[name] = verdict
		}
	}
}

// Line is the summary as one line of JSON.
func (s Summary) Line() string {
	line, err := json.Marshal(s)
	if err != nil {
		return err.Error() // cannot be: it holds numbers and strings
	}
	return string(line)
}
