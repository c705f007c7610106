package config

import (
	"fmt"
	"slices"
	"strings"
)

// nearestKey is ", nearest is X" for an unknown key of the file.
func (s *schema) nearestKey(key string) string {
	known := slices.Clone(Groups())
	for g := range s.groups {
		known = append(known, g)
	}
	for _, f := range s.fields {
		known = append(known, f.key)
		if f.file {
			known = append(known, f.key+"_file")
		}
	}
	return suggestion(key, known)
}

// nearestVar is ", nearest is X" for an unknown variable.
func (s *schema) nearestVar(name string) string {
	var known []string
	for _, f := range s.fields {
		known = append(known, f.env)
		if f.file {
			known = append(known, f.env+"_FILE")
		}
	}
	if _, own := s.groupOf(name); !own {
		// The group is misspelt: it may as well be one of another service, of
		// which only the name is known.
		for _, g := range Groups() {
			if s.foreign(g) {
				known = append(known, envName(g)+"_"+afterGroup(name, g))
			}
		}
	}
	return suggestion(name, known)
}

// afterGroup is what is left of a variable's name when as many words as the
// group has are cut off.
func afterGroup(name, group string) string {
	words := strings.Split(strings.TrimPrefix(name, Prefix), "_")
	n := min(1+strings.Count(group, "_"), len(words))
	return strings.Join(words[n:], "_")
}

// suggestion names the known name that takes the fewest edits.
func suggestion(name string, known []string) string {
	best, fewest := "", -1
	slices.Sort(known)
	for _, k := range known {
		if d := distance(name, k); fewest < 0 || d < fewest {
			best, fewest = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", nearest is %s", strings.TrimSuffix(best, "_"))
}

// distance is how many letters have to be put in, taken out, changed or swapped
// with their neighbour to make a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
