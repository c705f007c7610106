package ingress

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// appName is what fits into a path and a metric's label.
var appName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

var errNoApps = errors.New("ingress.apps is empty: without a verifier token no webhook can be believed; " +
	"set LEDGERFEED_INGRESS_APPS (or LEDGERFEED_INGRESS_APPS_FILE) to NAME=TOKEN with the token from the Webhooks page of Intuit's portal")

// parseApps reads "name=token[,token…][;name=…]" into the tokens of each app.
// No error shows what may be part of a token.
func parseApps(text secret.String) (map[string][]secret.String, error) {
	apps := map[string][]secret.String{}
	split := func(r rune) bool { return r == ';' || r == '\n' || r == '\r' }
	for i, part := range strings.FieldsFunc(text.Reveal(), split) {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, tokens, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("ingress.apps: part %d has no '=': write NAME=TOKEN", i+1)
		case !appName.MatchString(name):
			return nil, fmt.Errorf("ingress.apps: the name of part %d is not of letters, digits, '-' and '_' (64 at most)", i+1)
		case apps[name] != nil:
			return nil, fmt.Errorf("ingress.apps: app %s is named twice: give its tokens in one list", name)
		}
		for token := range strings.SplitSeq(tokens, ",") {
			if token = strings.TrimSpace(token); token != "" {
				apps[name] = append(apps[name], secret.String(token))
			}
		}
		if len(apps[name]) == 0 {
			return nil, fmt.Errorf("ingress.apps: app %s has no verifier token: write %s=TOKEN", name, name)
		}
	}
	if len(apps) == 0 {
		return nil, errNoApps
	}
	return apps, nil
}
