package dev

import (
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
	"github.com/ledgerfeed/ledgerfeed/services/reconciler"
)

const (
	// ackWait is how long after a kill -9 the messages that were in hand rest.
	ackWait = 10 * time.Second

	// grace leaves fresh changes to their webhooks, so that what CDC finds is
	// what webhooks lost. The simulator's retries and delays are much shorter.
	grace = 30 * time.Second
)

// limits let the first load of a realm with all entities and the scan that proves it
// through at once: some 125 calls, most of which leave half the burst to live changes.
// Nobody wants to wait for them here. 240 + 240 calls are still below the 500 that any 60
// seconds may have; the simulator counts concurrent calls, not those of a second.
func limits() state.LimitConfig {
	c := state.DefaultLimits()
	c.PerMinute, c.Burst, c.PerSecond = 240, 240, 240
	return c
}

func (f *feed) processorConfig() processor.ProcessorConfig {
	c := processor.DefaultProcessorConfig()
	c.AckWait = ackWait
	return c
}

func (f *feed) reconcilerConfig() reconciler.ReconcilerConfig {
	c := reconciler.DefaultReconcilerConfig()
	c.Interval, c.QueryInterval = f.o.ReconcileEvery, f.o.ReconcileEvery
	c.DormantInterval = 0 // whoever tries it out does not wait for a month
	c.StartJitter, c.Grace = 0, grace
	c.RetryInterval = time.Second
	c.PollInterval, c.VerifyEvery = 200*time.Millisecond, 100*time.Millisecond
	return c
}

func (f *feed) ingressConfig() ingress.IngressConfig {
	c := ingress.DefaultIngressConfig()
	c.Listen = f.o.Listen
	c.Apps = secret.String(app + "=" + f.o.VerifierToken.Reveal())
	return c
}
