package dev

import (
	"encoding/json"
	"fmt"
	"io"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// Summary is the outcome of a run with --for: the last line of stdout.
// Numbers of deliveries are of this process; with several sinks, those that
// belong to a sink are summed.
type Summary struct {
	// Changes counts the entities each sink must hold, tombstones included.
	Changes    int `json:"changes"`
	Delivered  int `json:"delivered"`
	Lost       int `json:"lost"`
	Stale      int `json:"stale"`
	Extra      int `json:"extra"`
	Duplicates int `json:"duplicates"`
	Backwards  int `json:"backwards"`
	// WrongTombstones are records that a sink calls deleted and QuickBooks has.
	// They count as extra or stale too.
	WrongTombstones int `json:"wrong_tombstones"`
	// ContentDiffers are records whose document differs from QuickBooks' under the
	// same version.
	ContentDiffers int `json:"content_differs"`

	LearnedByWebhook int `json:"learned_by_webhook"`
	LearnedByCDC     int `json:"learned_by_cdc"`
	LearnedByQuery   int `json:"learned_by_query"`

	Made              int `json:"made"`
	WebhookEvents     int `json:"webhook_events"`
	WebhookEventsLost int `json:"webhook_events_lost"`
	// Unselected are the event types that were not selected in the end, and
	// WebhookEventsUnselected the changes that made no webhook for it.
	Unselected              []string `json:"unselected"`
	WebhookEventsUnselected int      `json:"webhook_events_unselected"`
	APICalls                int      `json:"api_calls"`
	MaxCallsPerMinute       int      `json:"max_calls_per_minute"`
	MaxConcurrent           int      `json:"max_concurrent_calls"`
	Throttled               int      `json:"throttled"`
	Dead                    int      `json:"dead"`

	Realms          int           `json:"realms"`
	Seed            uint64        `json:"seed"`
	FirstDeliveryMS int64         `json:"first_delivery_ms"`
	SettleMS        int64         `json:"settle_ms"`
	ElapsedMS       int64         `json:"elapsed_ms"`
	Sinks           []SinkSummary `json:"sinks"`
}

// SinkSummary is one sink's share of a [Summary].
type SinkSummary struct {
	Name       string `json:"name"`
	Target     string `json:"target"`
	Held       int    `json:"held"`
	Delivered  int    `json:"delivered"`
	Lost       int    `json:"lost"`
	Stale      int    `json:"stale"`
	Extra      int    `json:"extra"`
	Duplicates int    `json:"duplicates"`
	Backwards  int    `json:"backwards"`

	WrongTombstones int `json:"wrong_tombstones"`
	ContentDiffers  int `json:"content_differs"`
}

// addSink adds one sink's numbers to the totals.
func (s *Summary) addSink(name string, target Target, held int, c counts, d difference) {
	s.Sinks = append(s.Sinks, SinkSummary{
		Name: name, Target: target.String(), Held: held,
		Delivered: c.delivered, Duplicates: c.duplicates, Backwards: c.backwards,
		Lost: d.lost, Stale: d.stale, Extra: d.extra,
		WrongTombstones: d.wrongTombstones, ContentDiffers: d.contentDiffers,
	})
	s.Changes = max(s.Changes, d.changes)
	s.Delivered += c.delivered
	s.Duplicates += c.duplicates
	s.Backwards += c.backwards
	s.Lost += d.lost
	s.Stale += d.stale
	s.Extra += d.extra
	s.WrongTombstones += d.wrongTombstones
	s.ContentDiffers += d.contentDiffers
	s.LearnedByWebhook += c.bySource[ledgerfeedv1.Source_SOURCE_WEBHOOK]
	s.LearnedByCDC += c.bySource[ledgerfeedv1.Source_SOURCE_CDC]
	s.LearnedByQuery += c.bySource[ledgerfeedv1.Source_SOURCE_QUERY]
}

// Equal tells whether every sink holds what QuickBooks holds.
func (s Summary) Equal() bool {
	return s.Lost == 0 && s.Stale == 0 && s.Extra == 0 && s.WrongTombstones == 0 && s.ContentDiffers == 0
}

// differences is what Equal denies, in words.
func (s Summary) differences() string {
	return fmt.Sprintf("%d lost, %d stale, %d extra, %d wrong tombstones, %d with other content",
		s.Lost, s.Stale, s.Extra, s.WrongTombstones, s.ContentDiffers)
}

// print writes the summary as one line of JSON.
func (s Summary) print(out io.Writer) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode summary: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
		return fmt.Errorf("print summary: %w", err)
	}
	return nil
}
