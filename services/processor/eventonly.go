package processor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/entity"
)

// announcements are the entities that are delivered without being read.
type announcements map[string]bool // by realm/entity, each may be *

// parseEventOnly reads entries of the form ENTITY, REALM/ENTITY or REALM/*.
func parseEventOnly(entries []string) (announcements, error) {
	only := announcements{}
	var errs []error
	for i, entry := range entries {
		realm, name, ok := strings.Cut(strings.TrimSpace(entry), "/")
		if !ok {
			realm, name = "*", realm
		}
		_, known := entity.Lookup(name)
		if realm == "" || name != "*" && !known {
			errs = append(errs, fmt.Errorf("processor.event_only, entry %d: %q: want ENTITY, REALM/ENTITY or REALM/*", i+1, entry))
			continue
		}
		only[realm+"/"+entity.Canonical(name)] = true
	}
	return only, errors.Join(errs...)
}

func (a announcements) has(realm, entity string) bool {
	return len(a) > 0 && (a[realm+"/"+entity] || a["*/"+entity] || a[realm+"/*"] || a["*/*"])
}

// announce makes a change of what the events say, without a document. Events of one
// second cannot be told from each other by a version of Intuit's, so that each gets
// a higher one: rather one too many than one too few. Deletions are read like those of
// other entities: without a read they are claims.
func (it *item) announce(now time.Time) {
	last := newest(it.open())
	for _, u := range it.open() {
		if at := coveredBy(u, u.received()); at.After(it.verdict.covered) {
			it.verdict.covered = at
		}
	}
	version := last.version
	if version == 0 {
		at := minTime(last.when(), now)
		version = qbo.Version(at, fmt.Sprint(at.Nanosecond()/int(time.Microsecond)), false)
	}
	for s := range it.lacking.each() {
		if m := it.marks[s].Version; m >= version && !qbo.IsTombstone(m) && !qbo.IsTombstone(m+1) {
			version = m + 1
		}
	}
	it.verdict.change = it.change(last)
	it.verdict.change.Version = version
	it.verdict.change.LastUpdated = timestamppb.New(qbo.VersionTime(version))
}
