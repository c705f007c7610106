package doctor

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

const checkSinks = "sinks"

// sinks tries to reach each sink from here.
func (x *exam) sinks(ctx context.Context) {
	if len(x.Config.Processor.Sinks) == 0 {
		x.skip(checkSinks, "set LEDGERFEED_PROCESSOR_SINKS as the processor has it", "not looked at: processor.sinks is empty")
		return
	}
	all, err := processor.ReachSinks(ctx, x.Config.Processor, x.broker)
	if err != nil {
		x.fail(checkSinks, "mend processor.sinks", "%v", err)
		return
	}
	for _, s := range all {
		if s.Err != nil {
			x.fail(checkSinks, "start it, or mend its place; until then its changes wait on its retry queue", "%s (%s) cannot be reached from here: %v", s.Name, s.Kind, s.Err)
			continue
		}
		x.ok(checkSinks, "%s (%s) can be reached", s.Name, s.Kind)
	}
}
