package webhook_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

func batch(n int) []webhook.Event {
	events := make([]webhook.Event, n)
	for i := range events {
		events[i] = webhook.Event{
			ID: fmt.Sprintf("88cd52aa-33b6-4351-9aa4-47572edb%04d", i), RealmID: "9341453908059321",
			Entity: "Invoice", EntityID: fmt.Sprint(i), Operation: update, OccurredAt: utc("2026-03-17T13:00:00.123456789Z"),
		}
	}
	return events
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{1, 10, 100} {
		body := cloudEvents(b, batch(size))
		for _, n := range []int{1, 4} {
			tokens := make([]secret.String, n)
			for i := range tokens {
				tokens[i] = secret.String(fmt.Sprintf("b5771f19b12ddb4bcdb9f08bdc50bc6387%02d", i))
			}
			signature := webhook.Sign(body, tokens[n-1])
			verifier := webhook.NewVerifier(tokens)
			b.Run(fmt.Sprintf("events=%d/tokens=%d", size, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if _, err := verifier.Verify(body, signature); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, format := range []webhook.Format{webhook.CloudEvents, webhook.Legacy} {
		for _, size := range []int{1, 10, 100} {
			body := cloudEvents(b, batch(size))
			if format == webhook.Legacy {
				body = legacy(b, batch(size))
			}
			n, err := webhook.Parse(body)
			require.NoError(b, err)
			require.Len(b, n.Events, size)
			b.Run(fmt.Sprintf("%s/events=%d", format, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if _, err := webhook.Parse(body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
