package doctor

import (
	"context"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/finding"
)

const checkWebhooks = "webhooks"

// webhooks takes over what the counts of coverage say: kinds of changes of which
// no webhook comes, companies that are not told of, webhooks that are late.
func (x *exam) webhooks(ctx context.Context) {
	if x.store == nil {
		x.skip(checkWebhooks, "fix Redis first", "not looked at")
		return
	}
	found, err := finding.Look(ctx, x.store, x.Now())
	if err != nil {
		x.fail(checkWebhooks, "see the log of Redis", "%v", err)
		return
	}
	found = slices.DeleteFunc(found, func(f finding.Finding) bool { return f.Kind == finding.AppRefused }) // see app
	for _, f := range found {
		if f.Severity == finding.Error {
			x.fail(checkWebhooks, f.Advice, "%s", f.Text)
		} else {
			x.warn(checkWebhooks, f.Advice, "%s", f.Text)
		}
	}
	if len(found) > 0 {
		return
	}
	heard, err := x.store.Heard(ctx)
	if err != nil {
		x.fail(checkWebhooks, "see the log of Redis", "%v", err)
		return
	}
	x.ok(checkWebhooks, "webhooks of %d kinds arrived, and scans found no kind without webhooks", len(heard))
}
