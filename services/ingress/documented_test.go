package ingress_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/services/ingress"
)

// section is a part of docs/webhooks.md, by its heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/webhooks.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	require.True(t, ok, heading)
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// tables are the rows of its tables, without their headings.
func tables(text string) (tables [][][]string) {
	inTable := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		switch {
		case !inTable:
			inTable, tables = true, append(tables, nil)
		case strings.Trim(cells[0], "-") != "":
			tables[len(tables)-1] = append(tables[len(tables)-1], cells)
		}
	}
	return tables
}

// provocations are how each outcome comes about: what is sent, and what of the
// server is otherwise than usual.
func provocations() map[string]provocation {
	const unsigned = "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n"
	post := unsigned + webhook.SignatureHeader + ": " + plausible + "\r\n"
	signed := func(token secret.String) string {
		body := event("1", "1")
		return fmt.Sprintf("%s%s: %s\r\nContent-Length: %d\r\n\r\n%s", unsigned, webhook.SignatureHeader, webhook.Sign(body, token), len(body), body)
	}
	return map[string]provocation{
		"stored":        {app: "demo", send: signed(oldToken)},
		"broken_body":   {app: "demo", send: post + "Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"},
		"no_signature":  {app: "demo", send: unsigned + "Content-Length: 2\r\n\r\n[]"},
		"bad_signature": {app: "demo", send: signed("wrong")},
		"unknown_app":   {send: "POST /webhooks/nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		"no_route":      {send: "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		"wrong_method":  {send: "GET /webhooks/demo HTTP/1.1\r\nHost: x\r\n\r\n"},
		"slow_body":     {app: "demo", send: post + "Content-Length: 2\r\n\r\n[", settings: []setting{configured(shortBudget)}},
		"too_large":     {app: "demo", send: post + "Content-Length: 9000000\r\n\r\n"},
		"crashed":       {app: "demo", send: post + "Content-Length: 2\r\n\r\n[]", prepare: func(b *bundle) { b.server.Break() }},
		"overloaded": {app: "demo", send: post + "Content-Length: 2\r\n\r\n[]", prepare: func(b *bundle) {
			b.server.Occupy(ingress.DefaultIngressConfig().MaxInFlightBytes)
		}},
		"unavailable": {app: "demo", send: signed(oldToken), settings: []setting{configured(shortBudget)}, prepare: func(b *bundle) { b.proxy.Cut() }},
	}
}

type provocation struct {
	app, send string
	settings  []setting
	prepare   func(*bundle)
}

// exchange sends bytes and returns the answer as it stands.
func exchange(t *testing.T, addr, send string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, send)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func TestAnswers_AreAsDocumented(t *testing.T) {
	rows := tables(section(t, "Answers"))[0]
	ways := provocations()
	for _, row := range rows {
		status, outcome, detail, also := row[0], strings.Trim(row[1], "`"), row[3], row[4]
		t.Run(outcome, func(t *testing.T) {
			way, ok := ways[outcome]
			require.True(t, ok, "nothing provokes it")
			delete(ways, outcome)
			b := prepare(t, devtest.NATS(t), nil, way.settings...)
			if way.prepare != nil {
				way.prepare(b)
			}
			b.run()
			resp, body := exchange(t, b.server.Addr(), way.send)
			require.Equal(t, status, strconv.Itoa(resp.StatusCode))
			require.EqualValues(t, 1, b.requests(way.app, outcome))
			require.Equal(t, strings.Contains(also, "closes"), resp.Close)
			for _, header := range []string{"Allow", "Retry-After", "WWW-Authenticate"} {
				require.Equal(t, strings.Contains(also, header), resp.Header.Get(header) != "", header)
				if _, value, ok := strings.Cut(also, header+": "); ok {
					want, _, _ := strings.Cut(value, "`")
					require.Equal(t, want, resp.Header.Get(header))
				}
			}
			if detail == "" {
				require.Empty(t, body)
				return
			}
			var problem struct{ Detail string }
			require.NoError(t, json.Unmarshal([]byte(body), &problem), body)
			require.Equal(t, detail, problem.Detail)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
		})
	}
	require.Empty(t, ways, "in no row")
}

// An outcome that is added gets its row.
func TestAnswers_EveryOutcomeIsDocumented(t *testing.T) {
	code, err := os.ReadFile("answer.go")
	require.NoError(t, err)
	outcomes := regexp.MustCompile(`outcome = "(\w+)"`).FindAllStringSubmatch(string(code), -1)
	require.Greater(t, len(outcomes), 10)
	for _, o := range outcomes {
		require.Contains(t, section(t, "Answers"), "| `"+o[1]+"` |")
	}
}

// What Go's HTTP server answers by itself.
func TestAnswers_OfWhatIsNoRequestAreAsDocumented(t *testing.T) {
	b := setup(t)
	const post = "POST /webhooks/demo HTTP/1.1\r\nHost: x\r\n"
	ways := map[string][]string{
		"400": {"nonsense\r\n\r\n", "POST /webhooks/demo HTTP/1.1\r\n\r\n", post + "a b\r\n\r\n", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"},
		"417": {post + "Expect: the worst\r\n\r\n"},
		"431": {post + "X: " + strings.Repeat("x", 20<<10) + "\r\n\r\n"},
		"501": {post + "Transfer-Encoding: gzip\r\n\r\n"},
		"505": {"POST /webhooks/demo HTTP/3.0\r\nHost: x\r\n\r\n"},
	}
	for _, row := range tables(section(t, "Answers"))[1] {
		require.NotEmpty(t, ways[row[0]], row[0])
		for _, send := range ways[row[0]] {
			resp, body := exchange(t, b.server.Addr(), send)
			require.Equal(t, row[0], strconv.Itoa(resp.StatusCode), "%.100s", send)
			require.True(t, resp.Close)
			if text, _, ok := strings.Cut(strings.TrimPrefix(row[2], "`"), "`"); ok {
				require.Contains(t, body, text)
			}
			require.NotRegexp(t, `(?i)nats|echo|ledgerfeed|go1`, body)
		}
		delete(ways, row[0])
	}
	require.Empty(t, ways)
	resp, _ := exchange(t, b.server.Addr(), post+"X: "+strings.Repeat("x", 15<<10)+"\r\nContent-Length: 0\r\n\r\n")
	require.Equal(t, 401, resp.StatusCode, "15 KiB of headers are taken")
}

func TestLimits_AreAsDocumented(t *testing.T) {
	text := section(t, "Limits")
	c := ingress.DefaultIngressConfig()
	require.Contains(t, text, fmt.Sprintf("\n%d MiB with the defaults", c.MemoryBound()>>20))
	bound := func(change func(*ingress.IngressConfig)) int64 {
		c := ingress.DefaultIngressConfig()
		change(&c)
		return c.MemoryBound() - ingress.DefaultIngressConfig().MemoryBound()
	}
	connection := bound(func(c *ingress.IngressConfig) { c.MaxConnections++ })
	withTLS := connection + bound(func(c *ingress.IngressConfig) { c.TLSCertFile = "x" })/int64(c.MaxConnections)
	require.Regexp(t, fmt.Sprintf(`\+ max_connections × %d KiB .*; %d KiB with TLS`, connection>>10, withTLS>>10), text)
	require.Contains(t, text, fmt.Sprintf("+ max_in_flight × %d KiB", bound(func(c *ingress.IngressConfig) { c.MaxInFlight++ })>>10))
	require.Contains(t, text, fmt.Sprintf("+ max_in_flight_bytes × %d", bound(func(c *ingress.IngressConfig) { c.MaxInFlightBytes++ })))
}

// The container of the compose stack may have what its settings come to; that of
// Kubernetes is compared where its manifests are.
func TestLimits_FitTheContainer(t *testing.T) {
	stack, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	number := func(pattern string) int64 {
		found := regexp.MustCompile(pattern).FindSubmatch(stack)
		require.NotNil(t, found, pattern)
		n, err := strconv.ParseInt(string(found[1]), 10, 64)
		require.NoError(t, err)
		return n
	}
	c := ingress.DefaultIngressConfig()
	c.MaxConnections = int(number(`LEDGERFEED_INGRESS_MAX_CONNECTIONS: "(\d+)"`))
	require.LessOrEqual(t, c.MemoryBound()>>20, number(`x-service:(?s:.*?)mem_limit: (\d+)m`))
	for _, mebi := range []int64{c.MemoryBound() >> 20, ingress.DefaultIngressConfig().MemoryBound() >> 20} {
		require.Contains(t, section(t, "Limits"), fmt.Sprintf("%d MiB", mebi))
	}
}
