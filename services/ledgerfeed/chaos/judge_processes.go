package chaos

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func (r *run) judgeI11(res *Result) {
	var wrong []string
	for _, one := range r.plant.replicas() {
		for _, c := range one.crashes() {
			// 3: a server it needs does not answer; 1: it ended in the middle of the
			// start; 2: a broker that stands still does not say how it syncs, which looks
			// like a wrong configuration; and none starts with a Redis that evicts.
			silent := c.code == 2 && (r.made["pause-broker"] || r.made["redis-evict"])
			if c.code != 3 && c.code != 1 && !silent {
				wrong = append(wrong, fmt.Sprintf("%s ended by itself with code %d at %s", one.name, c.code, c.at.UTC().Format("15:04:05")))
			}
		}
		if log, err := os.ReadFile(one.log); err == nil {
			for _, sign := range []string{"panic: ", "fatal error: ", "DATA RACE"} {
				if bytes.Contains(log, []byte(sign)) {
					wrong = append(wrong, fmt.Sprintf("the log of %s holds %q", one.name, sign))
				}
			}
		}
	}
	for _, name := range []string{sinkTable, sinkPost} {
		if !r.differs[name].equal() || !r.before[name].equal() {
			wrong = append(wrong, fmt.Sprintf("the sink %s is not as the books %s after the last fault", name, r.o.Settle))
		}
	}
	if r.undrained != "" && !r.effects.withholds {
		wrong = append(wrong, r.undrained)
	}
	wrong = append(wrong, append(r.unreported, r.unhealed...)...)
	res.find("I11", r.faults > 0, wrong...)
}

// judgeAfter is what shows only once everything has ended: I13 and I14.
func (r *run) judgeAfter(res *Result) {
	var wrong []string
	r.mu.Lock()
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.badEnds))) {
		wrong = append(wrong, name+" did not end well after SIGTERM")
	}
	if !r.effects.repeats && !r.effects.forgets && !r.effects.withholds && !r.effects.loses && r.plant.abrupt() == 0 {
		wrong = append(wrong, unturned(r.plant.endpoint.repeated(), r.plant.turns())...)
	}
	r.mu.Unlock()
	res.find("I13", true, wrong...)
	res.find("I14", true, r.plant.leaks()...)
	res.took = time.Since(r.begun)
}

// abrupt is how often a service did not end well though it was only asked to.
func (p *plant) abrupt() (n int) {
	for _, one := range p.replicas() {
		n += one.abruptly()
	}
	return n
}

// leaks looks for secrets in what the services wrote.
func (p *plant) leaks() (found []string) {
	secrets := append(p.books.given(), clientSecret, verifierToken, endpointSecret, strings.TrimPrefix(connectionKey.Reveal(), "chaos:"))
	for _, one := range p.replicas() {
		log, err := os.ReadFile(one.log)
		if err != nil {
			found = append(found, "the log of "+one.name+" cannot be read: "+err.Error())
			continue
		}
		for _, s := range secrets {
			if bytes.Contains(log, []byte(s)) {
				found = append(found, fmt.Sprintf("the log of %s holds a secret that begins with %q", one.name, s[:4]))
			}
		}
	}
	return found
}

func (r *run) judgeForgeries(res *Result, dead letters) {
	wrong := slices.Clone(r.forgeries)
	for ref := range dead.of {
		if strings.Contains(ref.ID, "rged") {
			wrong = append(wrong, "a forged event is among the dead letters: "+ref.ID)
		}
	}
	if n := r.plant.front.refused(); n > 0 && !r.effects.corrupts {
		wrong = append(wrong, fmt.Sprintf("%d bodies that were signed well were answered 4xx", n))
	}
	res.find("I10", r.forged > 0, wrong...)
}
