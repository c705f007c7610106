package dev

import (
	"fmt"
	"strings"
	"time"
)

// Outage is a span of the load in which every webhook is lost for good: the
// listener was unreachable and Intuit gave up.
type Outage struct {
	// From counts from the start of the load.
	From, For time.Duration
}

// UnmarshalText reads AT:FOR, such as "5s:8s".
func (o *Outage) UnmarshalText(text []byte) error {
	at, length, ok := strings.Cut(string(text), ":")
	from, err1 := time.ParseDuration(at)
	span, err2 := time.ParseDuration(length)
	if !ok || err1 != nil || err2 != nil || from < 0 || span <= 0 {
		return fmt.Errorf("outage %q: use AT:FOR, such as 5s:8s for eight seconds that begin at the fifth", text)
	}
	o.From, o.For = from, span
	return nil
}

// String is the form that UnmarshalText reads.
func (o Outage) String() string { return o.From.String() + ":" + o.For.String() }
