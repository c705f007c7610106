package telemetry

import (
	"time"

	"go.uber.org/zap"
)

// The fields every log line is made of. A key is written only here, so that a
// search for realm_id finds all lines about a realm. Values are ids, counts and
// chosen words: never a token, a signature or a body.

// Realm is the QuickBooks company.
func Realm(id string) zap.Field { return zap.String("realm_id", id) }

// Company is the name of the realm's company; no field if it is not known.
func Company(name string) zap.Field {
	if name == "" {
		return zap.Skip()
	}
	return zap.String("company", name)
}

// Entity is the kind of record, as the API spells it.
func Entity(name string) zap.Field { return zap.String("entity", name) }

// EntityID is the record's id, unique per realm and entity only.
func EntityID(id string) zap.Field { return zap.String("entity_id", id) }

// Sink is where changes go.
func Sink(name string) zap.Field { return zap.String("sink", name) }

// App is the Intuit app, by the name the configuration gives it.
func App(name string) zap.Field { return zap.String("app", name) }

// EnvelopeID is the message on the stream.
func EnvelopeID(id string) zap.Field { return zap.String("envelope_id", id) }

// TID is Intuit's trace id, which their support asks for.
func TID(id string) zap.Field { return zap.String("intuit_tid", id) }

// Trace is the W3C trace context the line belongs to.
func Trace(parent string) zap.Field { return zap.String("traceparent", parent) }

// Source is how a change was learned of: webhook, cdc, query, replay.
func Source(name string) zap.Field { return zap.String("source", name) }

// Outcome is how a piece of work ended, in one word.
func Outcome(name string) zap.Field { return zap.String("outcome", name) }

// Status is an HTTP status code.
func Status(code int) zap.Field { return zap.Int("status", code) }

// Attempt is the number of the try, from 1.
func Attempt(n int) zap.Field { return zap.Int("attempt", n) }

// Took is how long the work lasted.
func Took(d time.Duration) zap.Field { return zap.Duration("took", d) }

// After is a delay before the next try.
func After(d time.Duration) zap.Field { return zap.Duration("after", d) }

// At is a point in time the line is about, not the time of the line.
func At(t time.Time) zap.Field { return zap.Time("at", t) }

// Count is how many there were.
func Count(n int) zap.Field { return zap.Int("count", n) }

// Bytes is a size.
func Bytes(n int) zap.Field { return zap.Int("bytes", n) }

// Reason is why, in words chosen for the reader.
func Reason(text string) zap.Field { return zap.String("reason", text) }

// Address is a host and port, or a URL without a password.
func Address(a string) zap.Field { return zap.String("address", a) }

// Settings are keys of the configuration, never their values.
func Settings(keys []string) zap.Field { return zap.Strings("settings", keys) }

// File is the path of a file.
func File(path string) zap.Field { return zap.String("file", path) }

// Stream is the JetStream stream or subject.
func Stream(name string) zap.Field { return zap.String("stream", name) }

// Limits is what a stream may hold.
func Limits(text string) zap.Field { return zap.String("limits", text) }

// Consumer is the durable name of a consumer.
func Consumer(name string) zap.Field { return zap.String("consumer", name) }

// Build is what the binary was built from.
func Build(version string) zap.Field { return zap.String("build", version) }

// Part is a part of the program that starts and stops.
func Part(name string) zap.Field { return zap.String("part", name) }

// Error is the cause. It must hold no secret; types that carry one redact it.
func Error(err error) zap.Field { return zap.Error(err) }
