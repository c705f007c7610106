package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

const (
	checkBroker      = "broker"
	checkDurability  = "durability"
	checkCompression = "stream-compression"
	checkSettings    = "stream-settings"
	checkConsumers   = "stream-consumers"
	checkSpace       = "stream-space"
	checkStore       = "broker-store"
)

// nearlyFull is when a store that is bounded is reported.
const nearlyFull = 0.8

// stream opens the broker, and asks what a PubAck means and how full it is.
func (x *exam) stream(ctx context.Context) {
	if err := x.Config.NATS.Validate(); err != nil {
		x.fail(checkBroker, "correct the settings", "%v", err)
		return
	}
	var err error
	x.broker, err = stream.Connect(ctx, stream.Options{Config: x.Config.NATS, Name: "ledgerfeed-doctor", Logger: x.Logger.Named("nats")})
	if err != nil {
		do := "correct nats.url"
		if errors.Is(err, stream.ErrUnreachable) {
			do = "start the broker, or correct nats.url; until then webhooks are answered 503"
		}
		x.fail(checkBroker, do, "%v", err)
		return
	}
	x.ok(checkBroker, "NATS at %s", x.broker.Address())
	d, err := x.broker.Durability(ctx)
	if err != nil {
		x.fail(checkDurability, "start the services once: they make the streams", "%v", err)
		return
	}
	x.durability(d)
	x.compression(ctx)
	x.settings(ctx)
	x.consumers(ctx)
	x.disks(d)
	x.space(ctx)
}

func (x *exam) durability(d stream.Durability) {
	for _, p := range d.Problems {
		x.fail(checkDurability, adviceOnBroker(p), "profile %s: %s", d.Profile, p)
	}
	if len(d.Problems) > 0 {
		return
	}
	var servers []string
	for _, s := range d.Servers {
		servers = append(servers, fmt.Sprintf("%s %s", s.Name, s.Version))
	}
	text := fmt.Sprintf("profile %s, %d replica(s) on nats-server %s", d.Profile, d.Replicas, strings.Join(servers, ", "))
	if d.Profile == stream.SingleRelaxed {
		x.warn(checkDurability, "set sync_interval: always and nats.profile single, unless you want it so", "%s: a power cut loses up to two minutes of what was acknowledged to Intuit", text)
		return
	}
	x.ok(checkDurability, "%s", text)
}

// compression fails on a compressed stream: nats-server 2.15 with sync_interval always
// loses what such a stream has acknowledged when it is killed (ADR 14).
func (x *exam) compression(ctx context.Context) {
	compressed, err := x.broker.Compressed(ctx)
	if err != nil {
		x.fail(checkCompression, "start the services once: they make the streams", "%v", err)
		return
	}
	for _, name := range compressed {
		x.fail(checkCompression, fmt.Sprintf("run `nats stream edit %s --compression none`, or restart a service of this version, which does it", name),
			"%s is compressed: a nats-server that is killed can lose what the stream has acknowledged", name)
	}
	if len(compressed) == 0 {
		x.ok(checkCompression, "no stream is compressed")
	}
}

func adviceOnBroker(problem string) string {
	switch {
	case strings.Contains(problem, "did not say"):
		return "set nats.monitor_url"
	case strings.Contains(problem, "sync_interval"):
		return "set sync_interval: always in the jetstream block of the server's configuration, or choose the profile single-relaxed"
	case strings.Contains(problem, "replicas"):
		return "give the stream as many replicas as the profile has, or choose the profile single"
	case strings.Contains(problem, "needs"):
		return "upgrade nats-server"
	}
	return "change the server's settings, or choose the profile that matches them"
}

// settings fails on a stream that somebody has made or edited by hand.
func (x *exam) settings(ctx context.Context) {
	err := x.broker.Drift(ctx)
	drifts := stream.Drifts(err)
	for _, d := range drifts {
		if d.Field != "compression" { // a check of its own
			x.fail(checkSettings, d.Remedy, "stream %s: %s is %v on the server, but %v is configured", d.Stream, d.Field, d.Have, d.Want)
		}
	}
	switch {
	case err != nil && len(drifts) == 0:
		x.fail(checkSettings, "start the broker", "%v", err)
	case len(drifts) == 0:
		x.ok(checkSettings, "all streams are as configured")
	}
}

// consumers fails on a consumer that somebody has edited by hand, or that is missing.
func (x *exam) consumers(ctx context.Context) {
	var sinks []string
	if x.store != nil {
		sinks, _ = x.store.Sinks(ctx) // without them the groups of the events are compared
	}
	all := processor.Consumers(x.Config.Processor, sinks)
	err := x.broker.ConsumerDrift(ctx, all...)
	drifts := stream.Drifts(err)
	missing := 0
	for _, d := range drifts {
		if d.Missing() {
			missing++
		}
	}
	switch {
	case err != nil && len(drifts) == 0:
		x.fail(checkConsumers, "start the broker", "%v", err)
		return
	case missing == len(all):
		x.skip(checkConsumers, "start a processor: it creates them", "nothing to compare: no processor has run yet")
		return
	case len(drifts) == 0:
		x.ok(checkConsumers, "all %d consumers are as configured", len(all))
	}
	for _, d := range drifts {
		x.fail(checkConsumers, d.Remedy, "consumer %s of stream %s: %s is %v on the server, but %v is configured", d.Consumer, d.Stream, d.Field, d.Have, d.Want)
	}
}

// disks is about the servers' disks, which all their streams share.
func (x *exam) disks(d stream.Durability) {
	var all []string
	for _, s := range d.Servers {
		if s.StoreLimit <= 0 {
			continue
		}
		share := float64(s.Stored) / float64(s.StoreLimit)
		text := fmt.Sprintf("%s has %d MiB left of %d", s.Name, (s.StoreLimit-s.Stored)>>20, s.StoreLimit>>20)
		all = append(all, text)
		if share >= nearlyFull {
			x.warn(checkStore, "give the server a larger disk and raise max_file_store, or make the streams smaller (nats.*_max_bytes)", "%s: when it is full, webhooks are answered 503", text)
			return
		}
	}
	if len(all) > 0 {
		x.ok(checkStore, "%s", strings.Join(all, ", "))
	}
}

func (x *exam) space(ctx context.Context) {
	usage, err := x.broker.Usage(ctx)
	if err != nil {
		x.fail(checkSpace, "start the services once: they make the streams", "%v", err)
		return
	}
	var all []string
	full := false
	for _, u := range usage {
		if u.MaxBytes <= 0 {
			continue
		}
		share := float64(u.Bytes) / float64(u.MaxBytes)
		text := fmt.Sprintf("%s %.0f %% of %d MiB", u.Stream, 100*share, u.MaxBytes>>20)
		all = append(all, text)
		// These two discard the oldest: they may be full.
		if u.Stream == stream.ChangeStream || u.Stream == stream.GapStream || share < nearlyFull {
			continue
		}
		full = true
		x.warn(checkSpace, "find out what is not taken off it (ledgerfeed dead ls, sink ls), or raise its size (nats.*_max_bytes) and restart a service", "%s: when it is full, webhooks are answered 503 or messages stay where they are", text)
	}
	if !full {
		x.ok(checkSpace, "%s", strings.Join(all, ", "))
	}
}
