package processor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

func TestRefusals_CountEachRecordUntilItIsRead(t *testing.T) {
	r, err := newRefusals()
	require.NoError(t, err)
	m := qbo.MeaningRequest
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	bill, invoice := state.Ref{Entity: "Bill", ID: "1"}, state.Ref{Entity: "Invoice", ID: "1"}
	require.Equal(t, refusal{meaning: m, first: at, last: at, times: 1}, r.note("1", bill, m, at))
	require.Equal(t, refusal{meaning: m, first: at, last: at.Add(time.Minute), times: 2}, r.note("1", bill, m, at.Add(time.Minute)))
	require.Equal(t, 1, r.note("1", invoice, m, at).times)
	require.Equal(t, 1, r.note("2", bill, m, at).times)

	r.forget("1", bill)
	require.Equal(t, 1, r.note("1", bill, m, at).times)
	require.Equal(t, 2, r.note("2", bill, m, at).times)

	require.Equal(t, 1, r.note("2", bill, qbo.MeaningPoison, at).times, "another cause")

	later := at.Add(refusalLife + time.Minute)
	require.Equal(t, refusal{meaning: m, first: later, last: later, times: 1}, r.note("1", bill, m, later), "two incidents of one record are no lasting refusal")
}

// What was noted before a restart counts, but only for responses of the same meaning, and not
// after an hour without one.
func TestRefusals_AreLearned(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	bill := state.Ref{Entity: "Bill", ID: "1"}
	stored := state.RecordRefusal{Ref: bill, Meaning: qbo.MeaningRequest.String(), First: at, Last: at.Add(30 * time.Minute), Times: 7}
	for _, tt := range []struct {
		name    string
		now     time.Duration
		meaning qbo.Meaning
		want    refusal
	}{
		{"soon", 40 * time.Minute, qbo.MeaningRequest, refusal{qbo.MeaningRequest, at, at.Add(40 * time.Minute), 8}},
		{"another meaning", 40 * time.Minute, qbo.MeaningTransient, refusal{qbo.MeaningTransient, at.Add(40 * time.Minute), at.Add(40 * time.Minute), 1}},
		{"too late", 91 * time.Minute, qbo.MeaningRequest, refusal{qbo.MeaningRequest, at.Add(91 * time.Minute), at.Add(91 * time.Minute), 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := newRefusals()
			require.NoError(t, err)
			now := at.Add(tt.now)
			r.learn("1", stored, tt.meaning, now)
			require.Equal(t, tt.want, r.note("1", bill, tt.meaning, now))
		})
	}
}

func TestRefusals_AreBounded(t *testing.T) {
	r, err := newRefusals()
	require.NoError(t, err)
	for i := range maxRefusals + 10 {
		r.note("1", state.Ref{Entity: "Bill", ID: fmt.Sprint(i)}, qbo.MeaningRequest, time.Now())
	}
	require.Equal(t, maxRefusals, r.records.Len())
}
