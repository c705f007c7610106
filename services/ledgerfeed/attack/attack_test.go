package attack_test

import "testing"

// Every attack on one stack, one after the other: those of mass would disturb the others.
func TestAttacks(t *testing.T) {
	s := start(t)
	s.loaded()
	for _, a := range []struct {
		name string
		run  func(s *stack)
	}{
		// A stranger at the ingress.
		{"a signature that does not fit", (*stack).signatures},
		{"paths and methods", (*stack).paths},
		{"request smuggling", (*stack).smuggling},
		{"bodies without a signature", (*stack).unsignedBodies},
		{"slow senders", (*stack).slowSenders},
		{"HTTP/2 floods", (*stack).http2Floods},
		{"profiles and metrics", (*stack).adminPaths},
		// Who holds a verifier token.
		{"JSON bombs", (*stack).jsonBombs},
		{"replay", (*stack).replay},
		{"labels of metrics", (*stack).cardinality},
		{"injection", (*stack).injection},
		{"a deletion that did not happen", (*stack).forgedDeletion},
		{"the token of another app", (*stack).foreignApp},
		// A stranger at the console, a viewer, and a page in an operator's browser.
		{"forged sessions", (*stack).forgedSessions},
		{"guessing a token", (*stack).loginFlood},
		{"bodies for the console", (*stack).loginBodies},
		{"a viewer who acts", (*stack).viewer},
		{"erasing the trail", (*stack).erasedTrail},
		{"pages of other sites", (*stack).crossSite},
		{"scripts in what was received", (*stack).scripts},
		{"redirects to other sites", (*stack).redirects},
		{"a console without a login behind a proxy", (*stack).openConsole},
		// The OAuth flow, and what the services call.
		{"consents of others", (*stack).consents},
		{"connect behind a proxy", (*stack).connectBehindAProxy},
		{"addresses of the internal network", (*stack).internalAddresses},
		{"control of the simulator", (*stack).simulator},
		// After all of them.
		{"secrets in logs", (*stack).logs},
	} {
		t.Run(a.name, func(t *testing.T) {
			one := *s
			one.T = t
			a.run(&one)
		})
	}
}
