package doctor

import (
	"context"
	"slices"

	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/diagnosis"
)

const checkWebhooks = "webhooks"

// webhooks takes over what the counts of coverage say: kinds of changes of which
// no webhook comes, companies that are not told of, webhooks that are late.
func (x *exam) webhooks(ctx context.Context) {
	if x.store == nil {
		x.skip(checkWebhooks, "fix Redis first", "not looked at")
		return
	}
	found, err := diagnosis.Look(ctx, x.store, x.Now())
	if err != nil {
		x.fail(checkWebhooks, "see the log of Redis", "%v", err)
		return
	}
	found = slices.DeleteFunc(found, func(f diagnosis.Issue) bool { return f.Kind == diagnosis.AppRefused }) // see app
	for _, f := range found {
		if f.Severity == diagnosis.Error {
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
