package processor

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
	"github.com/ledgerfeed/ledgerfeed/services/processor/sink"
)

// GapKeeper is a sink that keeps the ledger of gaps beside the changes.
type GapKeeper interface {
	// KeepGaps stores gaps; nil means that they will survive a crash. They may come
	// twice, and the one that says that a webhook came late before the one without.
	KeepGaps(ctx context.Context, gaps []sink.Gap) error
}

// ability is the sink as a T, or the one that it unwraps to; nothing if there is none.
func ability[T any](s Sink) (able T, ok bool) {
	for {
		if able, ok = s.(T); ok {
			return able, true
		}
		wrapper, ok := s.(interface{ Unwrap() Sink })
		if !ok {
			return able, false
		}
		s = wrapper.Unwrap()
	}
}

// gapOptions are how the ledger of gaps is consumed for a sink that keeps it.
func gapOptions(c ProcessorConfig, sink string) stream.ConsumeOptions {
	return stream.ConsumeOptions{Queue: stream.Gaps, Durable: "gaps-" + envelope.RealmToken(sink), AckWait: c.AckWait, MaxAckPending: 64}
}

// keepGaps gives a sink the ledger of gaps if it keeps one, until ctx ends. Each such
// sink reads the whole of it, all replicas together once.
func (p *Processor) keepGaps(ctx context.Context, out *output) error {
	keeper, ok := ability[GapKeeper](out.Sink)
	if !ok {
		return nil
	}
	o := gapOptions(p.config, out.Name())
	log := p.log.With(telemetry.Sink(out.Name()))
	return p.stream.Consume(ctx, o, func(m *stream.Message) {
		var gaps []sink.Gap
		err := json.Unmarshal(m.Data(), &gaps)
		if err == nil {
			write, cancel := context.WithTimeout(ctx, p.config.WriteTimeout)
			err = keeper.KeepGaps(write, gaps)
			cancel()
		}
		_, refused := stream.AsPermanent(err)
		var syntax *json.SyntaxError
		var wrong *json.UnmarshalTypeError
		switch {
		case refused || errors.As(err, &syntax) || errors.As(err, &wrong):
			// Another try would fail the same way.
			log.Warn("gaps not written to sink", telemetry.Count(len(gaps)), telemetry.Error(err))
			err = m.Term("not kept")
		case err != nil:
			if ctx.Err() == nil {
				log.Debug("gaps not written to sink, will retry", telemetry.Count(len(gaps)), telemetry.Error(err))
			}
			err = m.Nak(min(stream.Backoff(m.Delivered()), time.Minute))
		default:
			settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
			err = m.Ack(settle)
			cancel()
		}
		if err != nil {
			log.Debug("gaps not settled; message will be redelivered", telemetry.Error(err))
		}
	})
}
