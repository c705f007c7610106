package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

const checkSinks = "sinks"

// sinks tries each sink from here, and asks what the processors say of it.
func (x *exam) sinks(ctx context.Context) {
	if len(x.Config.Processor.Sinks) == 0 {
		x.skip(checkSinks, "set LEDGERFEED_PROCESSOR_SINKS as the processor has it", "not looked at: processor.sinks is empty")
		return
	}
	all, err := processor.ReachSinks(ctx, x.Config.Processor, x.broker)
	if err != nil {
		x.fail(checkSinks, "correct processor.sinks", "%v", err)
		return
	}
	for _, s := range all {
		down := x.sinkDown(ctx, s.Name)
		switch {
		case s.Err != nil && s.Probed:
			x.fail(checkSinks, "remove the cause; until then its changes wait on its retry queue", "%s (%s) takes no write from here: %v%s", s.Name, s.Kind, s.Err, down)
		case s.Err != nil:
			x.fail(checkSinks, "start it, or correct its address; until then its changes wait on its retry queue", "%s (%s) cannot be reached from here: %v%s", s.Name, s.Kind, s.Err, down)
		case down != "":
			x.fail(checkSinks, "remove the cause; its changes wait on its retry queue and are delivered by themselves", "%s (%s) works from here%s", s.Name, s.Kind, down)
		case s.Probed:
			x.ok(checkSinks, "%s (%s) takes writes (one was tried and rolled back)", s.Name, s.Kind)
		default:
			x.ok(checkSinks, "%s (%s) can be reached", s.Name, s.Kind)
		}
	}
}

// sinkDown is what the processors say of a sink that is down; "" if nothing.
func (x *exam) sinkDown(ctx context.Context, name string) string {
	if x.store == nil {
		return ""
	}
	troubles, err := x.store.SinkTroubles(ctx, name)
	if err != nil || len(troubles) == 0 {
		return "" // the checks of Redis say what is wrong with it
	}
	t := troubles[0]
	return fmt.Sprintf("; the processors report it down since %s, %d failures in a row, the last: %s", t.Since.UTC().Format(time.RFC3339), t.Failures, t.Error)
}
