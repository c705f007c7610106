package chaos

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (r *run) judgeI3(res *Result, backward int, mislabelled []string) {
	wrong := mislabelled
	if backward > 0 {
		wrong = append(wrong, fmt.Sprintf("in the table the version of a record went back %d times", backward))
	}
	for _, name := range []string{sinkTable, sinkPost} {
		for when, d := range map[string]difference{"before the full load": r.before[name], "at the end": r.differs[name]} {
			if !d.equal() {
				wrong = append(wrong, fmt.Sprintf("%s the sink %s has %s", when, name, d))
				wrong = append(wrong, some(d.examples)...)
			}
		}
	}
	res.find("I3", true, wrong...)
}

func (r *run) judgeI5(res *Result, doubles int) {
	wrong := r.plant.endpoint.oddities()
	if doubles > 0 {
		wrong = append(wrong, fmt.Sprintf("the change log of the table holds %d versions twice", doubles))
	}
	repeats, most := r.plant.endpoint.repeats()
	res.Duplicate = repeats
	turns := len(r.plant.turns())
	if allowed := 1 + r.disrupted + turns; most > allowed {
		wrong = append(wrong, fmt.Sprintf("one change was delivered %d times, with %d faults that may repeat one and %d starts and ends of processors and failures of the endpoint", most, r.disrupted, turns))
	}
	res.find("I5", r.plant.endpoint.count() > 0, wrong...)
}

// judgeI15 is that of tombstones: see tombstones.go.
func (r *run) judgeI15(res *Result) {
	v := r.tombstones.verdict(time.Now())
	wrong := v.problems
	if res.WrongTombstones > 0 {
		wrong = append(wrong, fmt.Sprintf("%d records that are there are under tombstones at the end", res.WrongTombstones))
	}
	res.everWrong, res.longestWrong = v.ever, v.longest
	res.find("I15", v.tried, wrong...)
}

// turnWait is how long after such a turn two replicas may hold messages of one record: its
// partition changes hands, and what the one has taken, or
// waits for, the other may be told as well by a webhook or a scan.
const turnWait = 30 * time.Second

// unturned are the deliveries that were repeated though no processor had just been
// started or ended, and the changes that were repeated more often than that happened.
func unturned(repeated map[string][]time.Time, turns []time.Time) (wrong []string) {
	for _, id := range slices.Sorted(maps.Keys(repeated)) {
		all := repeated[id]
		for _, at := range all {
			if !slices.ContainsFunc(turns, func(turn time.Time) bool { return !at.Before(turn) && at.Sub(turn) <= turnWait }) {
				wrong = append(wrong, fmt.Sprintf("%s was delivered again at %s, and no processor had been started or ended, nor the endpoint failed", id, at.UTC().Format("15:04:05.000")))
			}
		}
		if len(all) > len(turns) {
			wrong = append(wrong, fmt.Sprintf("%s was delivered %d times more, with %d starts and ends of processors and failures of the endpoint", id, len(all), len(turns)))
		}
	}
	return wrong
}

// turns are when processors were started or ended, and when the endpoint began to fail
// or to take changes again: what it did not take is on its retry queue, from which any
// replica takes it, and a scan may tell another one.
func (p *plant) turns() (all []time.Time) {
	all = p.endpoint.turned()
	for _, one := range p.services["processor"] {
		all = append(all, one.turned()...)
	}
	return all
}
