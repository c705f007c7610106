package reconciler

import (
	"context"
	"fmt"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// optional lists the entities that some editions of QuickBooks are without, those that
// are refused most often first.
var optional = []string{
	"Budget", "Class", "Department", "PurchaseOrder", "Bill", "BillPayment", "VendorCredit", "Employee",
}

// maxSearch bounds the calls of one scan that search for refused entities.
const maxSearch = 80

// search finds the entities for which a CDC call is refused. Refused calls are not
// metered, so it leaves out one entity at a time: the call that succeeds has the changes
// of all others, and costs no more than the one that was refused would have.
func (s *scan) search(ctx context.Context, fs []*finding, refused error) ([]*finding, error) {
	s.mu.Lock()
	for _, f := range fs {
		if f.asked == 0 {
			f.asked = s.answers + 1
		}
	}
	s.mu.Unlock()
	parts := partsOf(fs)
	var rest []*finding
	var bad [][]*finding
	for _, part := range parts {
		more, again, err := s.searched(ctx, part)
		if err != nil {
			return nil, err
		}
		if again != nil {
			bad = append(bad, part)
		}
		rest = append(rest, more...)
	}
	if len(bad) == len(parts) {
		// Several are refused, or all.
		if err := s.probe(ctx); err != nil {
			if blocked(ctx, err) {
				return nil, err
			}
			return nil, fmt.Errorf("cdc of %d entities, and no other entity answers: %w", len(fs), refused)
		}
	}
	for _, part := range bad {
		more, err := s.leaveOneOut(ctx, part)
		if err != nil {
			return nil, err
		}
		rest = append(rest, more...)
	}
	return rest, nil
}

// partsOf splits findings into the entities that every edition has and the others; if
// they are of one kind, into halves.
func partsOf(fs []*finding) [][]*finding {
	var common, rare []*finding
	rank := map[*finding]int{}
	for _, f := range fs {
		info, _ := entity.Lookup(f.entity)
		if rank[f] = slices.Index(optional, f.entity); rank[f] < 0 && info.CDC {
			common = append(common, f)
		} else {
			rare = append(rare, f) // of rank -1 is a name that CDC was never seen to know
		}
	}
	slices.SortStableFunc(rare, func(a, b *finding) int { return rank[a] - rank[b] })
	if len(common) > 0 && len(rare) > 0 {
		return [][]*finding{common, rare}
	}
	all := append(rare, common...)
	return [][]*finding{all[:len(all)/2], all[len(all)/2:]}
}

// leaveOneOut finds the refused entities among some that were refused together.
func (s *scan) leaveOneOut(ctx context.Context, fs []*finding) ([]*finding, error) {
	if len(fs) == 1 {
		return s.cdc(ctx, fs)
	}
	for i, f := range fs {
		others := append(slices.Clone(fs[:i]), fs[i+1:]...)
		rest, refused, err := s.searched(ctx, others)
		if err != nil {
			return nil, err
		}
		if refused != nil {
			continue
		}
		more, err := s.cdc(ctx, []*finding{f})
		return append(rest, more...), err
	}
	// More than one of them is refused.
	var rest []*finding
	half := len(fs) / 2
	for _, part := range [][]*finding{fs[:half], fs[half:]} {
		more, refused, err := s.searched(ctx, part)
		if err == nil && refused != nil {
			more, err = s.leaveOneOut(ctx, part)
		}
		if err != nil {
			return nil, err
		}
		rest = append(rest, more...)
	}
	return rest, nil
}

// searched is one call of a search.
func (s *scan) searched(ctx context.Context, fs []*finding) (rest []*finding, refused, err error) {
	s.mu.Lock()
	s.searches++
	over, before := s.searches > maxSearch, s.answers
	s.mu.Unlock()
	if over {
		return nil, nil, fmt.Errorf("cdc: the refused entities were not found in %d calls", maxSearch)
	}
	rest, refused, err = s.attempt(ctx, fs)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found {
		s.extra += s.answers - before
	}
	s.found = s.found || s.answers > before
	return rest, refused, err
}
