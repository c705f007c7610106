package console

import (
	"fmt"
	"html/template"
	"strconv"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/realmstatus"
)

// functions are for the templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04") },
		"day":   func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
		"month": func(t time.Time) string { return t.UTC().Format("January 2006") },
		"ago":   since,
		"pct":   func(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) },
		"num":   func(n any) string { return number(whole(n)) },
		"secs":  seconds,
		"round": func(v float64) string { return strconv.FormatFloat(v, 'f', precision(v), 64) },
		"mib":   func(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) },
		"list":  func(all ...any) []any { return all },
		"sum":   func(a, b int64) int64 { return a + b },
		"key":   func(s realmstatus.State) string { return string(s) }, // as queries and classes have it
		"width": func(n, most int64) string { return fmt.Sprintf("%.1f", 100*float64(n)/float64(max(1, most))) },
	}
}

func precision(v float64) int {
	if v >= 10 || v == float64(int64(v)) {
		return 0
	}
	return 2
}

// seconds are shown in the unit that fits.
func seconds(v float64) string {
	d := time.Duration(v * float64(time.Second))
	switch {
	case d >= time.Minute:
		return apart(d)
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// number has its thousands apart.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		if text[i-1] != '-' {
			text = text[:i] + "\u202f" + text[i:]
		}
	}
	return text
}

// apart is how long something is from now, roughly.
func apart(d time.Duration) string {
	prefix := ""
	if d < 0 {
		d, prefix = -d, "in "
	}
	switch {
	case d < 2*time.Second:
		return prefix + "1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%s%d s", prefix, int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%s%d min", prefix, int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%s%d h", prefix, int(d.Hours()))
	}
	return fmt.Sprintf("%s%d days", prefix, int(d.Hours()/24))
}

func whole(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case uint64:
		return int64(n)
	case *float64:
		return int64(*n)
	case float64:
		return int64(n)
	}
	return 0
}

func since(t time.Time) string {
	d := time.Since(t)
	if d < 0 {
		return apart(d)
	}
	return apart(d) + " ago"
}
