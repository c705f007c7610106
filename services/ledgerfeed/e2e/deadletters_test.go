package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/envelope"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"

	ledgerfeedv1 "github.com/ledgerfeed/ledgerfeed/proto/ledgerfeed/v1"
)

// broker is a NATS with our streams, and nobody who consumes.
type broker struct {
	t    *testing.T
	url  string
	conn *stream.Conn
}

func openBroker(t *testing.T, url string) broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.Profile = url, stream.Dev
	conn, err := stream.Connect(ctx, stream.Options{Config: cfg, Name: "test", Logger: zaptest.NewLogger(t)})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return broker{t, url, conn}
}

func newBroker(t *testing.T) broker {
	t.Helper()
	b := openBroker(t, devtest.NATS(t))
	require.NoError(t, b.conn.EnsureTopology(t.Context()))
	return b
}

var deadAt = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)

// refused is a letter about a change that the sink crm did not take.
func refused(id string) stream.DeadLetter {
	events := []*ledgerfeedv1.Event{{Id: "event-" + id, Entity: "Invoice", EntityId: id, Operation: ledgerfeedv1.Operation_OPERATION_UPDATE}}
	return stream.DeadLetter{
		Reason: stream.ReasonSinkRefused, RealmID: "310687", App: "main", Sink: "crm", Attempts: 4, At: deadAt, FirstSeen: deadAt.Add(-time.Hour),
		FirstError: "connection refused", Detail: "422 Unprocessable Entity",
		Envelope: envelope.New(ledgerfeedv1.Source_SOURCE_WEBHOOK, "310687", id, events, envelope.Meta{})[0],
	}
}

func (b broker) bury(letters ...stream.DeadLetter) {
	b.t.Helper()
	for _, d := range letters {
		require.NoError(b.t, b.conn.PublishDead(b.t.Context(), d))
	}
}

// run runs a command on the broker to its end.
func (b broker) run(args ...string) *process {
	b.t.Helper()
	p := start(b.t, append(args, "--nats-url", b.url)...)
	<-p.ended
	return p
}

func (b broker) letters() int {
	b.t.Helper()
	counts, err := b.conn.DeadCounts(b.t.Context())
	require.NoError(b.t, err)
	n := 0
	for _, some := range counts {
		n += int(some)
	}
	return n
}

// take takes the envelopes off the event stream.
func (b broker) take(n int) []*ledgerfeedv1.Envelope {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var got []*ledgerfeedv1.Envelope
	err := b.conn.Consume(ctx, stream.ConsumeOptions{Queue: stream.Events, Durable: "test", MaxAckPending: n + 1}, func(m *stream.Message) {
		e, err := m.Envelope()
		if err == nil {
			got = append(got, e)
		}
		if len(got) == n {
			cancel()
		}
	})
	require.NoError(b.t, err)
	require.Len(b.t, got, n)
	return got
}

func TestDead_ListAndShow(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.bury(refused("145"), refused("146"), stream.DeadLetter{
		Reason: stream.ReasonUnreadable, RealmID: "7", Body: []byte(`{"a":"é"}`), At: deadAt, Attempts: 1, Detail: "entity name is missing \x1b[2J",
	}, stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte{0, 1, 255}, At: deadAt})

	p := b.run("dead", "ls")
	require.Zero(t, p.code())
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	require.Len(t, lines, 5)
	require.Regexp(t, `^SEQ +TIME +REASON +REALM +RECORD +SINK +TRIES +FIRST ERROR +LAST ERROR$`, lines[0])
	require.Regexp(t, `^4 +2026-11-20 09:30:00 +unreadable +- +- +- +0 +- +-$`, lines[1])
	require.Regexp(t, `^1 +2026-11-20 09:30:00 +sink-refused +310687 +Invoice/145 +crm +4 +connection refused +422 Unprocessable Entity$`, lines[4])
	require.NotContains(t, p.stdout.String(), "\x1b")

	for want, args := range map[string][]string{
		"146 145": {"--sink", "crm"}, "146": {"--limit", "1", "--reason", "sink-refused"}, "145": {"--realm", "310687", "--entity", "invoice", "--id", "145"},
		"": {"--since", "2026-11-21", "--until", "2026-11-22"},
	} {
		p = b.run(append([]string{"dead", "ls", "--json"}, args...)...)
		require.Zero(t, p.code())
		var ids []string
		for line := range strings.Lines(p.stdout.String()) {
			var l struct {
				Envelope struct {
					Events []struct {
						ID string `json:"entity_id"`
					}
				}
				FirstError string `json:"first_error"`
				LastError  string `json:"last_error"`
				Attempts   int
				Bytes      int
			}
			require.NoError(t, json.Unmarshal([]byte(line), &l))
			require.Equal(t, "connection refused", l.FirstError)
			require.Equal(t, "422 Unprocessable Entity", l.LastError)
			require.Equal(t, 4, l.Attempts)
			ids = append(ids, l.Envelope.Events[0].ID)
		}
		require.Equal(t, want, strings.Join(ids, " "))
	}

	p = b.run("dead", "show", "1")
	require.Zero(t, p.code())
	for _, want := range []string{`sink-refused\n`, `first seen +2026-11-20T08:30:00Z\n`, `attempts +4\n`, `sink +crm\n`, `app +main\n`,
		`first error +connection refused\n`, `Invoice/145 +update +- +0 +event-145`} {
		require.Regexp(t, want, p.stdout.String())
	}
	require.Contains(t, b.run("dead", "show", "3").stdout.String(), "10 bytes of text\n{\"a\":\"é\"}\n")
	require.Contains(t, b.run("dead", "show", "4").stdout.String(), "3 bytes in base64\nAAH/\n")
	require.Equal(t, "\x00\x01\xff", b.run("dead", "show", "4", "--raw").stdout.String())
	require.Equal(t, `{"a":"é"}`, b.run("dead", "show", "3", "--raw").stdout.String())
	raw, err := envelope.Decode([]byte(b.run("dead", "show", "1", "--raw").stdout.String()))
	require.NoError(t, err)
	require.Equal(t, "145", raw.GetEvents()[0].GetEntityId())
	var shown map[string]any
	require.NoError(t, json.Unmarshal([]byte(b.run("dead", "show", "3", "--json").stdout.String()), &shown))
	require.Equal(t, `{"a":"é"}`, shown["body"])
	p = b.run("dead", "show", "99")
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "no such dead letter: 99")
}

func TestDead_RequeueAndPurge(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.bury(refused("145"), refused("146"), stream.DeadLetter{Reason: stream.ReasonUnreadable, Body: []byte("?"), At: deadAt})

	p := b.run("dead", "requeue", "--all", "--dry-run")
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stdout.String(), "would requeue 2 of 3 dead letters (2 sink refused, 1 unreadable)")
	require.Contains(t, p.stderr.String(), "3: it still cannot be read")
	require.Equal(t, 3, b.letters())

	p = b.run("dead", "requeue", "--all", "--yes")
	require.Equal(t, 1, p.code())
	require.Equal(t, "requeued 2 of 3 dead letters\n", p.stdout.String())
	require.Contains(t, p.stderr.String(), "3: dead letter 3 stays: it still cannot be read")
	require.Contains(t, p.stderr.String(), "1 dead letters stay")
	require.Equal(t, 1, b.letters())
	for _, e := range b.take(2) {
		require.Equal(t, "crm", e.GetSink())
		require.Equal(t, ledgerfeedv1.Source_SOURCE_REPLAY, e.GetSource())
	}

	p = b.run("dead", "purge", "--reason", "unreadable", "--dry-run")
	require.Zero(t, p.code())
	require.Equal(t, "would purge 1 of 1 dead letter (1 unreadable)\n", p.stdout.String())
	p = b.run("dead", "purge", "3", "--yes")
	require.Zero(t, p.code())
	require.Zero(t, b.letters())
	require.Equal(t, 1, b.run("dead", "requeue", "3", "--yes").code())
}

// Killed between the publish of one letter and its deletion, as it is for many
// letters here, the command is run again: each is on the stream, and none is left.
func TestDead_RequeueKilledInTheMiddleLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	const n = 800
	for i := range n {
		b.bury(refused(fmt.Sprint(i)))
	}
	u, err := url.Parse(b.url)
	require.NoError(t, err)
	proxy := devtest.NewProxy(t, u.Host)
	proxy.Slow(5 * time.Millisecond) // some seconds for all of them, so that the kill comes in time
	p := start(t, "dead", "requeue", "--all", "--yes", "--nats-url", "nats://"+proxy.Addr())
	require.Eventually(t, func() bool { return b.letters() < n-50 || p.over() }, time.Minute, time.Millisecond)
	p.signal(syscall.SIGKILL)
	<-p.ended
	left := b.letters()
	require.Positive(t, left, "it was killed too late to show anything")

	again := b.run("dead", "requeue", "--all", "--yes")
	require.Zero(t, again.code())
	require.Zero(t, b.letters())
	ids := map[string]bool{}
	lag, err := b.conn.Lag(t.Context(), stream.Events, "test")
	require.NoError(t, err)
	for _, e := range b.take(int(lag.Stored)) {
		ids[e.GetEvents()[0].GetEntityId()] = true
	}
	require.Len(t, ids, n)
}

// On a terminal it asks.
func TestDead_AsksOnATerminal(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.bury(refused("1"), refused("2"), refused("3"))
	testscript.Run(t, testscript.Params{
		Dir: "testdata/terminal", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LEDGERFEED_NATS_URL", b.url)
			return nil
		},
	})
}

// A letter of a running feed that is requeued too early dies again, and tells its
// whole story.
func TestDead_ARunningFeedTakesARequeue(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir(), "--verifier-token", intuitToken, "--rate", "0")
	sent := exec.Command("ledgerfeed", "send", "--url", p.field("ingress"), "--signature", intuitSignature, "testdata/intuit_signed_body.json")
	out, err := sent.CombinedOutput()
	require.NoError(t, err, "%s", out)
	b := openBroker(t, p.field("nats"))
	var letters []stream.DeadLetter
	wait := func(so func(stream.DeadLetter) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			letters, err = b.conn.DeadLetters(t.Context(), 10)
			return err == nil && len(letters) == 1 && so(letters[0])
		}, time.Minute, 50*time.Millisecond)
	}
	wait(func(d stream.DeadLetter) bool { return d.Reason == stream.ReasonRealmNotConnected })
	first := letters[0]
	require.NotEmpty(t, first.FirstError)

	requeued := b.run("dead", "requeue", "--realm", first.RealmID, "--yes")
	require.Zero(t, requeued.code())
	wait(func(d stream.DeadLetter) bool { return d.Seq > first.Seq })
	require.Equal(t, first.Attempts+1, letters[0].Attempts)
	require.Equal(t, first.FirstError, letters[0].FirstError)
	require.Equal(t, first.FirstSeen, letters[0].FirstSeen)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.code())
}
