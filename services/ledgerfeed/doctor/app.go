package doctor

import (
	"context"

	"github.com/ledgerfeed/ledgerfeed/pkg/access"
)

const checkApp = "app"

// app tells whether Intuit refuses the app: its keys, the base URL or the environment is
// wrong. That is one result, however many companies it concerns.
func (x *exam) app(ctx context.Context) {
	if x.store == nil {
		x.skip(checkApp, "fix Redis first", "not looked at")
		return
	}
	problems, err := x.store.AppProblems(ctx)
	if err != nil {
		x.fail(checkApp, "see the log of Redis", "%v", err)
		return
	}
	x.wrong = map[string]bool{}
	for _, p := range problems {
		x.wrong[p.App] = true
		text, remedy := access.Explain(p)
		x.fail(checkApp, remedy, "%s; this configuration has qbo.base_url %s and qbo.client_id %s", text, x.Config.QBO.BaseURL, x.Config.QBO.ClientID)
	}
	if len(problems) == 0 {
		x.ok(checkApp, "Intuit refuses no app: keys, base URL and environment fit")
	}
}
