package state

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"
)

//go:embed tally.lua
var tallyLua string

// Tally counts how changes of one kind became known. The zero Tally is of none.
type Tally struct {
	// Told are those that a webhook told of first, Gaps those that a scan found
	// first; Late are those of the gaps whose webhook came after all.
	Told, Gaps, Late int64
	// Scans is how many scans found gaps; it is counted over all realms only.
	Scans int64
	// Lag is the sum of what the webhooks took from Intuit's event to their receipt,
	// by [Lags] how many took how long. A repeated one does not count.
	Lag time.Duration
	// Delivered are the changes told of by webhooks that reached a sink, Delivery the
	// sum of what they took from Intuit's event to there.
	Delivered int64
	Delivery  time.Duration
	Lags      Lags
}

// Lags is a histogram: how many webhooks took no longer than each of lagBounds and
// longer than the one before; the last are those above all.
type Lags [len(lagBounds) + 1]int64

var lagBounds = [...]time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour,
}

func (l *Lags) observe(d time.Duration) {
	for i, bound := range lagBounds {
		if d <= bound {
			l[i]++
			return
		}
	}
	l[len(l)-1]++
}

// Count is how many there are.
func (l Lags) Count() (n int64) {
	for _, m := range l {
		n += m
	}
	return n
}

// Quantile is the bound below which that share of them is, 0.5 the half; the largest
// bound if that is above it, and 0 if there are none.
func (l Lags) Quantile(q float64) time.Duration {
	rest := q * float64(l.Count())
	if rest <= 0 {
		return 0
	}
	for i, bound := range lagBounds {
		if rest -= float64(l[i]); rest <= 0 {
			return bound
		}
	}
	return lagBounds[len(lagBounds)-1]
}

// Add adds o to t.
func (t *Tally) Add(o Tally) {
	t.Told += o.Told
	t.Gaps += o.Gaps
	t.Late += o.Late
	t.Scans += o.Scans
	t.Lag += o.Lag
	t.Delivered += o.Delivered
	t.Delivery += o.Delivery
	for i, n := range o.Lags {
		t.Lags[i] += n
	}
}

// Coverage is the share of the changes that a webhook told of first, 0 to 1; 1 where
// there were none.
func (t Tally) Coverage() float64 {
	if t.Told+t.Gaps <= 0 {
		return 1
	}
	return float64(max(t.Told, 0)) / float64(max(t.Told, 0)+t.Gaps)
}

// MeanLag is the mean of Lag; 0 if there are none.
func (t Tally) MeanLag() time.Duration {
	if n := t.Lags.Count(); n > 0 {
		return t.Lag / time.Duration(n)
	}
	return 0
}

// MeanDelivery is the mean of Delivery; 0 if there are none.
func (t Tally) MeanDelivery() time.Duration {
	if t.Delivered > 0 {
		return t.Delivery / time.Duration(t.Delivered)
	}
	return 0
}

// text is the counts in the order the scripts know: told, gaps, late, scans, and from
// there those of the lag. What is zero at the end is left out.
func (t Tally) text() string {
	n := []int64{t.Told, t.Gaps, t.Late, t.Scans, t.Lag.Milliseconds(), t.Delivered, t.Delivery.Milliseconds()}
	n = append(n, t.Lags[:]...)
	for len(n) > 1 && n[len(n)-1] == 0 {
		n = n[:len(n)-1]
	}
	var b strings.Builder
	for i, v := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatInt(v, 10))
	}
	return b.String()
}

// lagText is text from the counts of the lag on.
func (t Tally) lagText() string {
	t = Tally{Lag: t.Lag, Lags: t.Lags}
	_, rest, _ := strings.Cut(t.text(), "0 0 0 0 ")
	return rest
}

func parseTally(text string) (Tally, error) {
	var t Tally
	var lag, delivery int64 // in milliseconds
	fields := strings.Fields(text)
	at := func(i int) *int64 {
		switch i {
		case 0:
			return &t.Told
		case 1:
			return &t.Gaps
		case 2:
			return &t.Late
		case 3:
			return &t.Scans
		case 4:
			return &lag
		case 5:
			return &t.Delivered
		case 6:
			return &delivery
		}
		if i -= 7; i < len(t.Lags) {
			return &t.Lags[i]
		}
		return nil // of a later version
	}
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return Tally{}, fmt.Errorf("counts %q: %w", text, err)
		}
		if to := at(i); to != nil {
			*to = n
		}
	}
	t.Lag, t.Delivery = time.Duration(lag)*time.Millisecond, time.Duration(delivery)*time.Millisecond
	return t, nil
}
