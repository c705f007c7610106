package reconciler_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
)

// While nothing could be read of a company its webhooks were acknowledged all the same,
// or lost. What it changed last is not left to them by the scan that follows.
func TestGrace_WhatAParkedCompanyChangedLastIsDelivered(t *testing.T) {
	for name, tc := range map[string]struct{ cease, resume func(*bundle) }{
		"its authorisation had lapsed": {
			func(b *bundle) {
				require.NoError(b.t, b.connections.SetState(b.t.Context(), realm, connection.ReauthRequired, "test"))
			},
			func(b *bundle) { b.connect() },
		},
		"a person had parked it": {
			func(b *bundle) {
				require.NoError(b.t, b.connections.SetState(b.t.Context(), realm, connection.Parked, "test"))
			},
			func(b *bundle) {
				require.NoError(b.t, b.connections.SetState(b.t.Context(), realm, connection.Live, ""))
			},
		},
		"it was disconnected": {
			func(b *bundle) { require.NoError(b.t, b.connections.Disconnect(b.t.Context(), realm)) },
			func(b *bundle) { b.connect() },
		},
		"the broker had lost them": {
			func(*bundle) {},
			func(b *bundle) {
				require.NoError(b.t, b.store.AddOutage(b.t.Context(), state.Outage{
					Kind: state.OutageBroker, From: b.clock.Now().Add(-time.Hour), To: b.clock.Now(),
				}))
			},
		},
	} {
		for _, entity := range []string{"Invoice", "TimeActivity"} {
			t.Run(name+"/"+entity, func(t *testing.T) {
				t.Parallel()
				b, r := loaded(t, 10)
				tc.cease(b)
				b.clock.Advance(time.Hour)
				last := b.create(entity)
				b.clock.Advance(2 * time.Minute)
				tc.resume(b)
				b.clock.Advance(20 * time.Second)
				close := b.create(entity) // by Intuit's clock, which may be ahead of ours
				b.clock.Advance(10 * time.Second)
				b.scheduled(r)
				require.True(t, b.has(entity, last.ID), "the next scan is a day away")
				require.True(t, b.has(entity, close.ID))
				b.requireHonest()

				// What comes later has a webhook.
				b.clock.Advance(time.Minute)
				young := b.create(entity)
				b.clock.Advance(time.Minute)
				require.Zero(t, b.scheduled(r).MissingCDC)
				require.False(t, b.has(entity, young.ID))
				require.True(t, b.cursors()[entity].Before(b.clock.Now().Add(-time.Minute)), "the cursor waits for it")
			})
		}
	}
}

// CDC may tell of a deletion without saying when: what we make of it is the time of the
// answer, which is always young.
func TestGrace_ADeletionWithoutATimeIsNotLeftToItsWebhook(t *testing.T) {
	t.Parallel()
	for _, entity := range []string{"Invoice", "Payment"} {
		t.Run(entity, func(t *testing.T) {
			t.Parallel()
			b, _ := loaded(t, 10)
			gone := b.create(entity)
			b.clock.Advance(time.Hour)
			stub := regexp.MustCompile(`"MetaData":\s*\{[^{}]*\},?\s*("[^{}]*"status":\s*"Deleted")`)
			stripped := false
			b.between(func(w http.ResponseWriter, r *http.Request, quickbooks http.Handler) {
				whole := httptest.NewRecorder()
				quickbooks.ServeHTTP(whole, r)
				body := stub.ReplaceAll(whole.Body.Bytes(), []byte("$1"))
				stripped = stripped || len(body) < whole.Body.Len()
				w.WriteHeader(whole.Code)
				_, _ = w.Write(body)
			})
			r := b.reconciler()
			b.reconcile(r)
			require.True(t, b.has(entity, gone.ID))
			b.clock.Advance(24 * time.Hour)
			b.delete(gone) // its webhook is lost
			b.clock.Advance(24 * time.Hour)
			b.scheduled(r)
			require.True(t, stripped)
			require.True(t, qbo.IsTombstone(b.feed.version(gone)), "no later scan tells of it")
			gaps, err := b.store.Gaps(t.Context(), realm, 10)
			require.NoError(t, err)
			require.Equal(t, "delete", gaps[0].Operation)
			require.Zero(t, gaps[0].Event, "nobody has said when")
			b.clock.Advance(24 * time.Hour)
			require.Zero(t, b.scheduled(r).MissingCDC)
		})
	}
}
