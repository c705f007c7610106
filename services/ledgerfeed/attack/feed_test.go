package attack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbosim"
)

// jsonBombs are signed: only who has a token can send them, and it must cost little.
func (s *stack) jsonBombs() {
	n := 7_900_000
	if !*full {
		n /= 4
	}
	for what, body := range map[string]string{
		"brackets":      strings.Repeat("[", n),
		"nested":        strings.Repeat(`{"a":`, n/6) + "1" + strings.Repeat("}", n/6),
		"numbers":       "[" + strings.Repeat("1,", n/2) + "1]",
		"keys":          "[{" + strings.Repeat(`"a":1,`, n/6) + `"b":1}]`,
		"a long string": `[{"id":"` + strings.Repeat("x", n) + `"}]`,
		"escapes":       `[{"id":"` + strings.Repeat(`\u0041`, n/6) + `"}]`,
		"one number":    "[" + strings.Repeat("9", n) + "]",
		"a deep event":  `[{"specversion":"1.0","type":"qbo.invoice.updated.v1","intuitentityid":"1","intuitaccountid":"9130000000000001","data":` + strings.Repeat("[", n/2) + strings.Repeat("]", n/2) + `}]`,
	} {
		client := s.client(intuits)
		status, took := s.webhook(client, "production", productionToken, []byte(body))
		require.Equal(s, http.StatusOK, status, what)
		require.Less(s, took, intuitsPatience, what)
		client.CloseIdleConnections()
	}
	// The bound of docs/webhooks.md with the settings of the stack.
	require.Less(s, s.running["ingress"].memory(s.T, "VmHWM"), int64(539<<20))
}

// settled waits until an event that is sent now is delivered: what came before it in its
// company is settled, too.
func (s *stack) settled() {
	s.Helper()
	ref, err := s.sim.Create(company, "Invoice", map[string]any{"PrivateNote": "a mark of the test"})
	require.NoError(s, err)
	require.Eventually(s, func() bool { return s.has(ref) }, patience, 50*time.Millisecond)
}

// has reports whether a record was delivered.
func (s *stack) has(ref qbosim.Ref) bool {
	all, _ := s.delivered()
	for _, c := range all {
		if c.Realm == ref.Realm && c.Entity == ref.Entity && c.ID == ref.ID {
			return true
		}
	}
	return false
}

// times is how often a record was delivered.
func (s *stack) times(ref qbosim.Ref) (n int) {
	all, _ := s.delivered()
	for _, c := range all {
		if c.Realm == ref.Realm && c.Entity == ref.Entity && c.ID == ref.ID {
			n++
		}
	}
	return n
}

// replay: a webhook that was listened in on, sent again and again, costs no call and
// delivers nothing.
func (s *stack) replay() {
	ref, err := s.sim.Create(company, "Invoice", nil)
	require.NoError(s, err)
	require.Eventually(s, func() bool { return s.has(ref) }, patience, 50*time.Millisecond)
	s.settled()
	before, calls := s.times(ref), s.sim.Stats().Calls
	// Another id than the real one's had: its content is what makes it harmless.
	body := bodyOf(event(company, "Invoice", ref.ID, "updated", time.Now().Add(-time.Hour)))
	client := s.client(attacker)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range sized(300) / 10 {
				_, _ = try(s.Context(), client, http.MethodPost, "http://"+s.listen["ingress"]+"/webhooks/production", bytes.NewReader(body), webhook.SignatureHeader, webhook.Sign(body, productionToken))
			}
		})
	}
	all.Wait()
	s.settled()
	require.Equal(s, before, s.times(ref))
	require.LessOrEqual(s, s.sim.Stats().Calls-calls, 8, "those of the mark of the test, and one look at most")
}

// cardinality: what a stranger names becomes no series and no key.
func (s *stack) cardinality() {
	series := func() int {
		n := 0
		for _, service := range []string{"ingress", "processor"} {
			a := s.send(s.client("127.0.0.1"), http.MethodGet, "http://"+s.admin[service]+"/metrics", nil)
			n += strings.Count(a.body, "\n")
		}
		return n
	}
	before := series()
	var events []map[string]any
	for i := range sized(2000) {
		events = append(events, event(fmt.Sprint("91300000001", i), fmt.Sprint("Invented", i), "1", "updated", time.Now()))
	}
	status, _ := s.webhook(s.client(intuits), "production", productionToken, bodyOf(events...))
	require.Equal(s, http.StatusOK, status)
	s.settled()
	require.Less(s, series()-before, 60)
}

// injection: what an event names reaches neither another query, nor another company, nor
// the log as it is.
func (s *stack) injection() {
	var events []map[string]any
	for _, id := range []string{
		"1') OR Id IN ('2", `\'`, "../../" + victim + "/invoice/1", "1' MAXRESULTS 1000 --", "%27%20OR%20%271%27=%271", "1\r\nX-Injected: 1", "1?requestid=1", "1\x1b[31m", "*",
	} {
		events = append(events, event(company, "Invoice", id, "updated", time.Now()))
	}
	for _, entity := range []string{"Bill WHERE Id > '0' --", "../../" + victim + "/query", "invoice?x=1"} {
		events = append(events, event(company, entity, "1", "updated", time.Now()))
	}
	for _, realm := range []string{victim + "/../" + company, "*", ">", "lf.event.>", "9341453000000077\r\nfoo", "\u202e9341", `"}` + "\n" + `{"level":"error"`} {
		events = append(events, event(realm, "Invoice", "1", "updated", time.Now()))
	}
	status, _ := s.webhook(s.client(intuits), "production", productionToken, bodyOf(events...))
	require.Equal(s, http.StatusOK, status)
	before, _ := s.delivered()
	s.settled()
	after, text := s.delivered()
	require.LessOrEqual(s, len(after)-len(before), 3, "of the mark of the test alone")
	for _, c := range after {
		require.Contains(s, []string{company, victim}, c.Realm)
	}
	require.NotContains(s, text, "X-Injected")
	for _, header := range []string{"X-Forwarded-For", "Intuit-T-Id", "User-Agent"} {
		for _, value := range []string{"1.2.3.4\x1b]0;owned\x07", "\u202eabc", `"}{"level":"error","message":"forged"}`} {
			_, _ = try(s.Context(), s.client(attacker), http.MethodPost, "http://"+s.listen["ingress"]+"/webhooks/production", strings.NewReader("x"),
				header, value, webhook.SignatureHeader, webhook.Sign([]byte("x"), "wrong"))
		}
	}
}

// deletedOf reports whether a record was delivered as deleted.
func (s *stack) deletedOf(ref qbosim.Ref) bool {
	all, _ := s.delivered()
	for _, c := range all {
		if c.Realm == ref.Realm && c.Entity == ref.Entity && c.ID == ref.ID && c.Deleted {
			return true
		}
	}
	return false
}

// forgedDeletion: a signed word that a record is deleted, which QuickBooks still has.
func (s *stack) forgedDeletion() {
	ref, err := s.sim.Create(company, "Invoice", nil)
	require.NoError(s, err)
	require.Eventually(s, func() bool { return s.has(ref) }, patience, 50*time.Millisecond)
	for _, at := range []time.Time{time.Now(), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)} {
		status, _ := s.webhook(s.client(attacker), "production", productionToken, bodyOf(event(company, "Invoice", ref.ID, "deleted", at)))
		require.Equal(s, http.StatusOK, status)
	}
	s.settled()
	require.False(s, s.deletedOf(ref))
	before := s.times(ref)
	require.NoError(s, s.sim.Update(ref, map[string]any{"PrivateNote": "later"}))
	require.Eventually(s, func() bool { return s.times(ref) > before }, patience, 50*time.Millisecond, "a later change is delivered")
}

// foreignApp: the token of the sandbox's app says something of a company of production.
func (s *stack) foreignApp() {
	ref, err := s.sim.Create(company, "Invoice", nil)
	require.NoError(s, err)
	require.Eventually(s, func() bool { return s.has(ref) }, patience, 50*time.Millisecond)
	before := s.times(ref)
	for _, operation := range []string{"deleted", "updated"} {
		status, _ := s.webhook(s.client(attacker), "sandbox", sandboxToken, bodyOf(event(company, "Invoice", ref.ID, operation, time.Now())))
		require.Equal(s, http.StatusOK, status)
	}
	require.Eventually(s, func() bool {
		return s.letters("foreign-app") > 0
	}, 20*time.Second, 100*time.Millisecond, "it is a dead letter that names the cause")
	require.False(s, s.deletedOf(ref))
	require.Equal(s, before, s.times(ref))
}

// letters counts dead letters of a reason, as the console shows them.
func (s *stack) letters(reason string) int {
	s.Helper()
	a := s.send(s.client("127.0.0.1"), http.MethodGet, "http://"+s.listen["console"]+"/api/v1/dead?reason="+reason, nil, "Authorization", "Bearer "+operatorToken)
	require.Equal(s, http.StatusOK, a.status, a.body)
	return strings.Count(a.body, `"`+reason+`"`)
}

// internalAddresses: a webhook sink whose URL leads to an address of the internal
// network, by whatever spelling, is not called.
func (s *stack) internalAddresses() {
	canary, err := net.Listen("tcp", "0.0.0.0:0")
	require.NoError(s, err)
	_, port, err := net.SplitHostPort(canary.Addr().String())
	require.NoError(s, err)
	hit := make(chan string, 100)
	go func() {
		for {
			conn, err := canary.Accept()
			if err != nil {
				return
			}
			hit <- conn.LocalAddr().String()
			conn.Close()
		}
	}()
	defer canary.Close()
	reach := func(host string, settings map[string]string) string {
		all := map[string]string{
			"PROCESSOR_SINKS":           fmt.Sprintf("inside=webhook:http://%s:%s/", host, port),
			"PROCESSOR_WEBHOOK_SECRETS": "inside=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
			// The other checks of doctor have nothing to look at.
			"NATS_URL": "nats://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1", "ADMIN_LISTEN": "off",
		}
		maps.Copy(all, settings)
		p := s.run("doctor", "ledgerfeed", []string{"doctor", "--json"}, all)
		<-p.ended
		return p.output.String()
	}
	// Where it is allowed the canary is called: the others are refused for their address.
	reach("127.0.0.1", map[string]string{"PROCESSOR_WEBHOOK_ALLOW": "127.0.0.0/8"})
	select {
	case <-hit:
	case <-time.After(20 * time.Second):
		require.Fail(s, "the canary is not called where it may be")
	}
	for len(hit) > 0 {
		<-hit
	}
	for _, host := range []string{
		"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]",
	} {
		said := reach(host, nil)
		require.Regexp(s, `"check":"sinks","level":"fail"|processor\.sinks`, said, host)
		select {
		case at := <-hit:
			require.Fail(s, "the internal network was called", "%s at %s", host, at)
		default:
		}
	}
}

// simulator: a page of another site changes the simulated books.
func (s *stack) simulator() {
	client := s.client("127.0.0.1")
	url := s.intuit.URL + "/sim/faults"
	for what, header := range map[string][]string{
		"a form":            {"Content-Type", "text/plain", "Sec-Fetch-Site", "cross-site"},
		"an older browser":  {"Origin", "https://evil.example"},
		"a name that moved": {"Host", "evil.example"},
	} {
		a := s.send(client, http.MethodPut, url, strings.NewReader(`{"refuseRevoke":true}`), header...)
		require.Contains(s, []int{http.StatusForbidden, http.StatusMisdirectedRequest}, a.status, what)
	}
	require.False(s, s.sim.Faults().RefuseRevoke)
}

var notText = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]`)

// logs: no secret is in any output, and nothing that a stranger sent is a line of its own.
func (s *stack) logs() {
	for name, p := range s.running {
		text := p.output.String()
		for _, hush := range []string{productionToken.Reveal(), sandboxToken.Reveal(), operatorToken, viewerToken, "hush-client-secret", sealKey[3:]} {
			require.NotContains(s, text, hush, name)
		}
		require.Empty(s, notText.FindString(text), name)
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "{") {
				continue // what a command prints
			}
			var fields map[string]any
			require.NoError(s, json.Unmarshal([]byte(line), &fields), "%s: %s", name, line)
			require.NotEqual(s, "forged", fields["message"])
		}
	}
}
