package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Level is how a check ended.
type Level string

// The levels. Skip: it could not be made; the text says what it needs.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
	Skip Level = "skip"
)

// Finding is how one check ended.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Do is what to do; empty for ok.
	Do string `json:"do,omitempty"`
}

// Report is all findings, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Count is how many findings have that level.
func (r Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

func (x *exam) add(check string, level Level, do, format string, args ...any) {
	f := Finding{Check: check, Level: level, Text: oneLine(fmt.Sprintf(format, args...)), Do: do}
	x.report.Findings = append(x.report.Findings, f)
	if x.Progress != nil {
		x.Progress(f)
	}
}

func (x *exam) ok(check, format string, args ...any) { x.add(check, OK, "", format, args...) }

func (x *exam) warn(check, do, format string, args ...any) { x.add(check, Warn, do, format, args...) }

func (x *exam) fail(check, do, format string, args ...any) { x.add(check, Fail, do, format, args...) }

func (x *exam) skip(check, do, format string, args ...any) { x.add(check, Skip, do, format, args...) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Print writes a finding as a line, and what to do in one below it.
func (f Finding) Print(w io.Writer) {
	fmt.Fprintf(w, "%-4s  %-14s  %s\n", f.Level, f.Check, f.Text)
	if f.Do != "" {
		fmt.Fprintf(w, "%22s→ %s\n", "", f.Do)
	}
}

// Summary is the last line of a report.
func (r Report) Summary() string {
	return fmt.Sprintf("%d ok, %d warn, %d fail, %d skipped", r.Count(OK), r.Count(Warn), r.Count(Fail), r.Count(Skip))
}

// JSON writes one object a line: the findings.
func (r Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, f := range r.Findings {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}
