package qbosim

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// Format is the shape of the webhook bodies.
type Format string

const (
	// CloudEvents is the present format: one array, realms mixed.
	CloudEvents Format = "cloudevents"
	// Legacy is eventNotifications: one realm a body.
	Legacy Format = "legacy"
	// Mixed sends some deliveries in either format.
	Mixed Format = "mixed"
)

// Options says what the simulator is. The zero value works: a QuickBooks in
// memory, without webhooks, that rotates the refresh token at every refresh.
type Options struct {
	// Seed makes records, changes and faults repeatable.
	Seed uint64
	// Now is Intuit's clock. Timers (latency, aggregation, retries) run on
	// real time whatever it says. Default time.Now.
	Now func() time.Time
	// Journal is a file that truth, tokens and unacknowledged webhooks survive
	// kill -9 in; it is read at New and appended to. "" keeps all in memory.
	// Two simulators must not share one.
	Journal string
	// VerifierToken signs the webhooks.
	VerifierToken secret.String
	// WebhookURL is the app's endpoint. While it is "" nobody is subscribed:
	// changes make no events. See also [Sim.SetWebhookURL].
	WebhookURL string
	// Format defaults to CloudEvents.
	Format Format
	// Aggregate is how long events are gathered before they are sent.
	// Default 200 ms; negative sends at once.
	Aggregate time.Duration
	// RetryScale stretches Intuit's retry schedule (10s 20s 30s 5m 20m 2h 4h
	// 6h 6h …). Default 1.
	RetryScale float64
	// ClientID and ClientSecret are what the token endpoints ask for.
	ClientID     string
	ClientSecret secret.String
	// OtherClients are the keys of other apps: the token endpoints take them, and answer
	// a refresh of this app's token with invalid_grant without using it up.
	OtherClients []Client
	// RedirectURLs are the ones the app may name at the authorize endpoint.
	// None allows any.
	RedirectURLs []string
	// AskConsent makes the authorize endpoint a page that asks which company to
	// connect and lets its owner refuse. Otherwise the owner agrees at once.
	AskConsent bool
	// RequirePKCE refuses a consent without a code challenge. One that is given is
	// always checked.
	RequirePKCE bool
	// SeparateConsents keeps the tokens of a company's earlier consents good beside those
	// of the last, and a revocation ends those of one consent. Otherwise, which is
	// stricter, a consent replaces the one before it. What Intuit does is not documented.
	SeparateConsents bool
	// CustomFields is how many custom fields a made-up record has whose entity may have
	// some. An answer holds three unless it is asked for all.
	CustomFields int
	// CDCFields defaults to CDCFieldsCut, the case that hurts.
	CDCFields CDCFields
	// Unselected are the event types that are not ticked in the portal; see also
	// [Sim.SetUnselected].
	Unselected []Unselected
	Faults     Faults
	Limits     Limits
	// AccessTokenTTL defaults to one hour.
	AccessTokenTTL time.Duration
	// RotateEvery is the least age at which a refresh replaces the refresh
	// token. Intuit's is about 24 h; 0, the strictest, is every refresh.
	RotateEvery time.Duration
	Logger      *zap.Logger
}

// Client is the keys of an app.
type Client struct {
	ID     string
	Secret secret.String
}

// Limits are per realm. Zero fields take Intuit's figures.
type Limits struct {
	PerMinute      int // 500 in any 60 s
	Concurrent     int // 10
	BatchPerMinute int // 40
}

func (o *Options) setDefaults() error {
	def(&o.Format, CloudEvents)
	def(&o.CDCFields, CDCFieldsCut)
	def(&o.Aggregate, 200*time.Millisecond)
	def(&o.RetryScale, 1)
	def(&o.AccessTokenTTL, time.Hour)
	def(&o.Limits.PerMinute, 500)
	def(&o.Limits.Concurrent, 10)
	def(&o.Limits.BatchPerMinute, 40)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	switch o.Format {
	case CloudEvents, Legacy, Mixed:
	default:
		return fmt.Errorf("format %q: use %s, %s or %s", o.Format, CloudEvents, Legacy, Mixed)
	}
	if o.RetryScale < 0 {
		return fmt.Errorf("retry scale %v: give a positive factor", o.RetryScale)
	}
	return o.Faults.validate()
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
