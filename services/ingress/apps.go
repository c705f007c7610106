package ingress

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
)

// app is one Intuit app, by the name the configuration gives it.
type app struct {
	name     string
	tokens   []secret.String
	verifier *webhook.Verifier
	matches  []prometheus.Counter // by token
}

// label is the app in metrics and logs; empty for the nil app of a request that
// names none we know.
func (a *app) label() string {
	if a == nil {
		return ""
	}
	return a.name
}

// appName is what fits into a path and a metric's label.
var appName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

var errNoApps = errors.New("ingress.apps is empty, and without a verifier token no webhook can be verified: " +
	"set LEDGERFEED_INGRESS_APPS (or LEDGERFEED_INGRESS_APPS_FILE) to NAME=TOKEN with the token from the Webhooks page of Intuit's portal")

// parseApps reads NAME=TOKEN[,TOKEN…][;NAME=…]. Errors count the apps instead of
// quoting them: what is not where it belongs may be a token.
func parseApps(s secret.String) (map[string]*app, error) {
	apps := map[string]*app{}
	var errs []error
	n := 0
	for _, text := range strings.FieldsFunc(s.Reveal(), func(r rune) bool { return r == ';' || r == '\n' || r == '\r' }) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		n++
		name, list, ok := strings.Cut(text, "=")
		a := &app{name: strings.TrimSpace(name)}
		for token := range strings.SplitSeq(list, ",") {
			if token = strings.TrimSpace(token); token != "" {
				a.tokens = append(a.tokens, secret.String(token))
			}
		}
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("ingress.apps: app %d has no '=': write NAME=TOKEN", n))
		case !appName.MatchString(a.name):
			errs = append(errs, fmt.Errorf("ingress.apps: the name of app %d is invalid: use letters, digits, '-' and '_' (64 at most)", n))
		case len(a.tokens) == 0:
			errs = append(errs, fmt.Errorf("ingress.apps: app %s has no verifier token: write %s=TOKEN", a.name, a.name))
		case apps[a.name] != nil:
			errs = append(errs, fmt.Errorf("ingress.apps: app %s is named twice: give its tokens in one list", a.name))
		default:
			a.verifier = webhook.NewVerifier(a.tokens)
			apps[a.name] = a
		}
	}
	if n == 0 {
		errs = append(errs, errNoApps)
	}
	return apps, errors.Join(errs...)
}

// leastToken is the shortest verifier token that nobody guesses. Intuit's have 36
// characters.
const leastToken = 16

// shortTokens names the apps with tokens that are too short, by name.
func shortTokens(apps map[string]*app) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		for i, token := range apps[name].tokens {
			if len(token.Reveal()) < leastToken {
				errs = append(errs, fmt.Errorf("ingress.apps: token %d of app %s has fewer than %d characters: copy it from the Webhooks page of Intuit's portal", i+1, name, leastToken))
			}
		}
	}
	return errors.Join(errs...)
}

// VerifierTokens are the apps of ingress.apps with their tokens, for tools that
// sign as Intuit does.
func VerifierTokens(apps secret.String) (map[string][]secret.String, error) {
	parsed, err := parseApps(apps)
	if err != nil {
		return nil, err
	}
	tokens := make(map[string][]secret.String, len(parsed))
	for name, a := range parsed {
		tokens[name] = a.tokens
	}
	return tokens, nil
}
