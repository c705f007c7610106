package qbosim

import "maps"

// Stats are counts since New.
type Stats struct {
	// Calls are requests to the API of known realms, refused ones included.
	Calls        int            `json:"calls"`
	CallsByRealm map[string]int `json:"callsByRealm"`
	// CallsByKind has cdc, query, read and batch.
	CallsByKind map[string]int `json:"callsByKind"`
	// Refused are the calls that were not answered with what was asked for, those of
	// Throttled included. Intuit does not charge for them.
	Refused int `json:"refused"`
	// RefusedEntities are those that Faults.Refuse refused for an entity, by realm/Entity/kind.
	RefusedEntities map[string]int `json:"refusedEntities"`
	// Throttled are the calls answered 429, injected ones included.
	Throttled int `json:"throttled"`
	// MaxPerMinute and MaxConcurrent are the most that any realm had in any
	// 60 s and at one moment, refused calls included.
	MaxPerMinute  int `json:"maxPerMinute"`
	MaxConcurrent int `json:"maxConcurrent"`

	// Webhooks and WebhookEvents are what was acknowledged.
	Webhooks      int `json:"webhooks"`
	WebhookEvents int `json:"webhookEvents"`
	// WebhookEventsDropped were lost by a fault or an outage.
	WebhookEventsDropped int `json:"webhookEventsDropped"`
	// WebhookEventsForged claimed a deletion that never happened, and
	// WebhookEventsUnknown were of companies that are no realms: as queued,
	// without duplicates.
	WebhookEventsForged  int `json:"webhookEventsForged"`
	WebhookEventsUnknown int `json:"webhookEventsUnknown"`
	// WebhookEventsUnselected were of event types that are not selected.
	WebhookEventsUnselected int `json:"webhookEventsUnselected"`
	// WebhookAttempts are POSTs; WebhookFailures those not answered 200.
	WebhookAttempts int `json:"webhookAttempts"`
	WebhookFailures int `json:"webhookFailures"`

	// Refreshes are successful refreshes; RefreshReplays are refreshes with a
	// token that had been replaced: they were refused.
	Refreshes      int `json:"refreshes"`
	RefreshReplays int `json:"refreshReplays"`
	// RefreshesByRealm are those of Refreshes.
	RefreshesByRealm map[string]int `json:"refreshesByRealm"`
	// RefreshesRefused were made with a good token, and refused by a fault or for the
	// keys of another app.
	RefreshesRefused int `json:"refreshesRefused"`
}

// Stats returns the counts so far. They begin at 0 in a restarted simulator.
func (s *Sim) Stats() Stats {
	st := Stats{CallsByRealm: map[string]int{}, CallsByKind: map[string]int{}, RefusedEntities: map[string]int{}, RefreshesByRealm: map[string]int{}}
	s.mu.RLock()
	for id, r := range s.realms {
		r.meter.addTo(&st, id)
	}
	s.mu.RUnlock()
	s.tokens.mu.Lock()
	st.Refreshes, st.RefreshReplays, st.RefreshesRefused = s.tokens.good, s.tokens.replays, s.tokens.refused
	maps.Copy(st.RefreshesByRealm, s.tokens.goodBy)
	s.tokens.mu.Unlock()
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	c := s.hooks.counts
	st.Webhooks, st.WebhookEvents, st.WebhookEventsDropped = c.webhooks, c.events, c.dropped
	st.WebhookAttempts, st.WebhookFailures = c.attempts, c.failures
	st.WebhookEventsForged, st.WebhookEventsUnknown, st.WebhookEventsUnselected = c.forged, c.unknown, c.unselected
	return st
}
