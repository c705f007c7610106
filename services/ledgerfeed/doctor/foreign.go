package doctor

import (
	"context"
	"fmt"
	"time"
)

// foreignFor is how long events of another app are reported.
const foreignFor = 24 * time.Hour

// foreignApps names the companies of which another app sends webhooks than the one they are
// connected to. The processors refuse these events.
func (x *exam) foreignApps(ctx context.Context) {
	all, err := x.store.Foreign(ctx)
	if err != nil {
		x.fail(checkConnections, "see the log of Redis", "%v", err)
		return
	}
	var names []string
	for _, f := range all {
		if x.Now().Sub(f.Last) < foreignFor {
			names = append(names, fmt.Sprintf("%s (connected to %s, %d events of %s, the last at %s)", x.named(f.Realm), f.Connected, f.Events, f.App, f.Last.UTC().Format(time.DateTime)))
		}
	}
	if len(names) > 0 {
		x.fail(checkConnections, "if the app was renamed in ingress.apps, set processor.app_aliases=OLD=NEW; otherwise correct the endpoint URL of the other app in Intuit's portal, and replace its verifier token if you do not know who sent them",
			"webhooks of another app than the company's are refused, scans find the changes: %s", some(names))
	}
}
