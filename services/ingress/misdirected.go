package ingress

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/telemetry"
)

const (
	// misdirectedEvery and misdirectedBurst bound how many signatures of requests for
	// nobody are checked: any stranger may send a header that looks like one.
	misdirectedEvery = time.Second
	misdirectedBurst = 5
	// misdirectedBody is the largest body that is checked, twice what Intuit sends.
	misdirectedBody = 2 << 20
	// maxPath is how much of a path the log shows.
	maxPath = 128
	// signatureLength is that of 32 bytes in base64.
	signatureLength = 44
)

// signers finds the app whose token signed a body, among all apps.
type signers struct {
	verifier *webhook.Verifier
	apps     []*app // by token
	tokens   []secret.String
}

func newSigners(apps map[string]*app) *signers {
	s := &signers{}
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		for _, token := range apps[name].tokens {
			s.apps, s.tokens = append(s.apps, apps[name]), append(s.tokens, token)
		}
	}
	s.verifier = webhook.NewVerifier(s.tokens)
	return s
}

// of is the app that signed the body, nil if none did. Every token is tried, in constant time.
func (s *signers) of(body []byte, signature string) *app {
	token, err := s.verifier.Verify(body, signature)
	if err != nil {
		return nil
	}
	return s.apps[token]
}

// redact hides a path that holds a token: the two are easy to mix up in the portal.
func (s *signers) redact(path string) string {
	for _, token := range s.tokens {
		if strings.Contains(path, token.Reveal()) {
			return "[REDACTED]"
		}
	}
	if len(path) > maxPath {
		path = path[:maxPath] + "…"
	}
	return path
}

// misdirected warns about signed requests that are sent to a wrong address. What it
// costs is bounded for all senders together: one check at a time, one a second.
type misdirected struct {
	checking slots
	checks   *rate.Limiter
	ours     throttle // signed by an app of ours
	strange  throttle // signed by nobody we know; it must not hide the others
}

func newMisdirected() *misdirected {
	return &misdirected{checking: make(slots, 1), checks: rate.NewLimiter(rate.Every(misdirectedEvery), misdirectedBurst)}
}

// enter reports whether a check may begin now, which leave ends.
func (m *misdirected) enter() bool {
	if !m.checking.enter() {
		return false
	}
	if m.checks.Allow() {
		return true
	}
	m.checking.leave()
	return false
}

func (m *misdirected) leave() { m.checking.leave() }

// looksSigned reports whether a request has what may be a signature of Intuit's: 44
// characters of base64, the last of which fills up.
func looksSigned(h http.Header) bool {
	signature := strings.TrimSpace(h.Get(webhook.SignatureHeader))
	if len(signature) != signatureLength || signature[signatureLength-1] != '=' {
		return false
	}
	for i := range signatureLength - 1 {
		switch c := signature[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}

// reportMisdirected warns about a request for an unknown app or path that is signed: a
// wrong address in Intuit's portal holds back every webhook of the app. The body is read
// for that alone; the answer stays the same.
func (s *Server) reportMisdirected(w http.ResponseWriter, req *http.Request, r *request) {
	if req.Method != http.MethodPost || !looksSigned(req.Header) || !s.misdirected.enter() {
		return
	}
	defer s.misdirected.leave()
	h := &hold{memory: s.memory} // there is one at a time
	defer h.release()
	body, err := readBody(w, req, min(s.config.MaxBody, misdirectedBody), r.began.Add(s.config.BodyTimeout), h)
	if err != nil {
		return // what did not arrive cannot be checked
	}
	signers := s.signers.Load()
	path := zap.String("path", signers.redact(req.URL.Path))
	if signer := signers.of(body, req.Header.Get(webhook.SignatureHeader)); signer != nil {
		s.metrics.misdirected.WithLabelValues(signer.name).Inc()
		if s.misdirected.ours.pass(time.Now()) {
			s.log.Warn("signed webhook sent to a wrong address", telemetry.App(signer.name), path, telemetry.Address(r.peer),
				telemetry.TID(traceID(req.Header)), telemetry.Reason("its URL in Intuit's portal must end in /webhooks/"+signer.name))
		}
		return
	}
	if s.misdirected.strange.pass(time.Now()) {
		s.log.Warn("request with a signature sent to a wrong address", path, telemetry.Address(r.peer),
			telemetry.TID(traceID(req.Header)), telemetry.Reason("no verifier token of ingress.apps fits it"))
	}
}

// signedBy is the other app whose token signed a body that was sent to r's app; nil if
// there is none, or too many were checked of late.
func (s *Server) signedBy(req *http.Request, r *request, body []byte) *app {
	if int64(len(body)) > misdirectedBody || !looksSigned(req.Header) || !s.misdirected.enter() {
		return nil
	}
	defer s.misdirected.leave()
	return s.signers.Load().of(body, req.Header.Get(webhook.SignatureHeader))
}
