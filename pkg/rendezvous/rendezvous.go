// Package rendezvous spreads parts of the work over the replicas of a service, so
// that each of them comes to the same result from the same list.
//
// It is highest random weight hashing with a bound: a part goes to the replica with
// the highest score for it that has not its share yet. A replica that comes or goes
// moves few parts, and none has more than one part more than another.
//
// It does not know which replicas live: see state.Members.
package rendezvous

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
)

// Leaders are the replicas that lead each of the parts, 0 to parts-1; empty strings
// if there are no replicas. The order of replicas does not matter.
func Leaders(replicas []string, parts int) []string {
	leaders := make([]string, parts)
	if len(replicas) == 0 {
		return leaders
	}
	type pair struct {
		part    int
		replica string
		score   uint64
	}
	pairs := make([]pair, 0, parts*len(replicas))
	for p := range parts {
		for _, r := range replicas {
			pairs = append(pairs, pair{p, r, Score(p, r)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.part, b.part), cmp.Compare(a.replica, b.replica))
	})
	share, extra := parts/len(replicas), parts%len(replicas)
	led := map[string]int{}
	for _, x := range pairs {
		n := led[x.replica]
		if leaders[x.part] != "" || n > share || n == share && extra == 0 {
			continue
		}
		if n == share {
			extra--
		}
		led[x.replica]++
		leaders[x.part] = x.replica
	}
	return leaders
}

// Score is how well a part suits a replica: who is next in line, after the leader.
func Score(part int, replica string) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", part, replica, part)
	return h.Sum64()
}
