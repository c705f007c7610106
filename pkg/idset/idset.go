// Package idset holds the ids of millions of records in 12 bytes each, to find those
// of one side that the other side does not have.
//
// It keeps hashes, not ids. Two ids share a hash by chance once in 2^64 pairs, and
// the hashes differ from set to set: an id that is taken for another in one set is
// not in the next. So a set may miss an absent id, with a probability of less than
// 10^-11 among ten million, but the next comparison finds it. It never calls a
// marked id unmarked.
package idset

import (
	"cmp"
	"hash/maphash"
	"slices"
)

// Set is a set of ids, each with a number and a mark. Add all of them, Seal it once,
// then ask. It is not safe for concurrent use.
type Set struct {
	seed    maphash.Seed
	entries []entry
	marks   []uint64 // a bit for each entry
}

// entry is 12 bytes: a uint64 would be aligned to 16.
type entry struct{ high, low, number uint32 }

// New makes a set with room for so many ids.
func New(capacity int) *Set {
	return &Set{seed: maphash.MakeSeed(), entries: make([]entry, 0, capacity)}
}

// Add adds an id with a number. Of an id that is added again the higher number counts.
func (s *Set) Add(id string, number uint32) {
	if len(s.entries) == cap(s.entries) {
		s.merge() // before it grows: ids that were added twice take room
	}
	e := s.of(id)
	e.number = number
	s.entries = append(s.entries, e)
}

// Seal ends the adding. The set is empty of marks.
func (s *Set) Seal() {
	s.merge()
	s.marks = make([]uint64, (len(s.entries)+63)/64)
}

// Len is how many ids there are, after Seal.
func (s *Set) Len() int { return len(s.entries) }

// Mark marks an id, and reports whether it is in the set.
func (s *Set) Mark(id string) bool {
	i, ok := s.find(id)
	if ok {
		s.marks[i/64] |= 1 << (i % 64)
	}
	return ok
}

// Has reports whether an id is in the set.
func (s *Set) Has(id string) bool {
	_, ok := s.find(id)
	return ok
}

// Unmarked reports whether an id is in the set and has no mark, and its number.
func (s *Set) Unmarked(id string) (number uint32, ok bool) {
	i, ok := s.find(id)
	if !ok || s.marked(i) {
		return 0, false
	}
	return s.entries[i].number, true
}

// Count is how many ids without a mark have a number from (inclusive) to (exclusive).
func (s *Set) Count(from, to uint32) (n int) {
	for i, e := range s.entries {
		if e.number >= from && e.number < to && !s.marked(i) {
			n++
		}
	}
	return n
}

// MarkBelow marks all ids with a number below that.
func (s *Set) MarkBelow(number uint32) {
	for i, e := range s.entries {
		if e.number < number {
			s.marks[i/64] |= 1 << (i % 64)
		}
	}
}

func (s *Set) of(id string) entry {
	h := maphash.String(s.seed, id)
	return entry{high: uint32(h >> 32), low: uint32(h)}
}

func (s *Set) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.entries, s.of(id), compare)
}

func (s *Set) marked(i int) bool { return s.marks[i/64]&(1<<(i%64)) != 0 }

// merge sorts, and keeps the highest number of each id.
func (s *Set) merge() {
	slices.SortFunc(s.entries, func(a, b entry) int {
		return cmp.Or(compare(a, b), cmp.Compare(b.number, a.number))
	})
	s.entries = slices.CompactFunc(s.entries, func(a, b entry) bool { return compare(a, b) == 0 })
}

func compare(a, b entry) int {
	if c := cmp.Compare(a.high, b.high); c != 0 {
		return c
	}
	return cmp.Compare(a.low, b.low)
}
