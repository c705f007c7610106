package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each run must end with the sink equal to the books, whatever happened to the
// webhooks, and CDC must find something exactly where webhooks were lost.
func TestDev_SinkEqualsBooks(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		lost bool
	}{
		{"plain", nil, false},
		{"repeated and late webhooks", []string{"--duplicate", "0.2", "--reorder", "0.3"}, false},
		{"lost, repeated and late webhooks", []string{"--drop", "0.1", "--duplicate", "0.1", "--reorder", "0.2"}, true},
		{"outage", []string{"--outage", (*loadFor / 4).String() + ":" + (*loadFor / 2).String()}, true},
		{"no webhook at all", []string{"--drop", "1"}, true},
		{"legacy format", []string{"--format", "legacy"}, false},
		{"both formats", []string{"--format", "mixed", "--duplicate", "0.1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--for", loadFor.String(), "--realms", "4", "--rate", "50", "--seed", "1", "--json"}, tt.args...)
			dir := t.TempDir()
			if tt.lost {
				loaded(t, dir)
			}
			s := startDev(t, dir, args...).equal()

			require.Equal(t, int(50*loadFor.Seconds()), s.Made)
			require.Zero(t, s.Dead, "dead letters")
			if !tt.lost {
				require.Positive(t, s.LearnedByQuery, "records that are older than the connection")
				require.Zero(t, s.WebhookEventsLost)
				require.Zero(t, s.LearnedByCDC, "found by CDC though no webhook was lost")
				require.Positive(t, s.LearnedByWebhook)
				return
			}
			require.Positive(t, s.WebhookEventsLost)
			require.Positive(t, s.LearnedByCDC)
		})
	}
}

// loaded runs the first load of four companies: a change during it is found by its queries,
// so that on a slow machine CDC finds none.
func loaded(t *testing.T, dir string) {
	s := startDev(t, dir, "--for", "1s", "--rate", "5", "--realms", "4", "--json").equal()
	require.Positive(t, s.LearnedByQuery, "records that are older than the connection")
}

// A change of a type that is not selected is found by a scan, and the summary says which
// types these are.
func TestDev_FindsWhatIsUnselected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	loaded(t, dir)
	s := startDev(t, dir, "--for", loadFor.String(), "--rate", "50", "--realms", "4", "--json",
		"--unselect", "invoice.update", "--unselect", "customer.created@"+(*loadFor/2).String()).equal()
	require.Equal(t, []string{"invoice.update", "customer.create@" + (*loadFor / 2).String()}, s.Unselected)
	require.Positive(t, s.WebhookEventsUnselected)
	require.Zero(t, s.WebhookEventsLost)
	require.Positive(t, s.LearnedByCDC)
	require.Positive(t, s.LearnedByWebhook)
}

// How fast it comes (within two seconds of the start) is for a person to look at:
// a test machine may be busy.
func TestDev_TellsWhenTheFirstChangeWasDelivered(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir(), "--for", "2s", "--json")
	ms := p.equal().FirstDeliveryMS
	require.Positive(t, ms)
	t.Logf("first change delivered %d ms after the start", ms)
}

// What is added later is loaded from the beginning, what was emptied too.
func TestDev_NewSinkIsLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := "jsonl:" + t.TempDir() + "/other.jsonl"
	startDev(t, dir, "--for", "2s", "--rate", "30").equal()

	s := startDev(t, dir, "--for", "1s", "--rate", "5", "--sink", "jsonl:"+dir+"/changes.jsonl", "--sink", other).equal()
	require.Len(t, s.Sinks, 2)
	require.Greater(t, s.Sinks[1].Held, 30)
	// A scan after the restart may meet a change of this run before its webhook.
	require.LessOrEqual(t, s.LearnedByCDC, s.Made, "a load is not found by CDC")

	remove(t, dir+"/changes.jsonl")
	s = startDev(t, dir, "--for", "1s", "--rate", "5").equal()
	require.Greater(t, s.Sinks[0].Held, 30)
	require.LessOrEqual(t, s.LearnedByCDC, s.Made)
}
