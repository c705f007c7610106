package secrets_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/secrets/secretstest"
)

var users = []string{"ingress", "processor", "reconciler", "console", "setup"}

// shipped are the directories with a nats.conf that is shipped.
var shipped = map[string]string{
	"compose": deploy + "/nats", "demo": deploy + "/k8s/overlays/demo", "production": deploy + "/k8s/components/nats",
}

// authorization is what each user may do, as the configuration of a server.
func authorization() string {
	var b strings.Builder
	b.WriteString("# What each service may do, from pkg/stream/access.go: `go test ./services/ledgerfeed/secrets -update` writes it.\n")
	b.WriteString("include '../../run/secrets/nats_users'\nauthorization {\n  timeout: 5\n  users: [\n")
	for _, user := range users {
		a, _ := stream.LeastAccessOf(user)
		fmt.Fprintf(&b, "    {\n      nkey: $NKEY_%s\n      permissions: {\n", strings.ToUpper(user))
		for _, part := range []struct {
			name  string
			allow []string
		}{{"publish", a.Publish}, {"subscribe", a.Subscribe}} {
			fmt.Fprintf(&b, "        %s: [\n", part.name)
			for _, subject := range part.allow {
				fmt.Fprintf(&b, "          %q\n", subject)
			}
			b.WriteString("        ]\n")
		}
		b.WriteString("      }\n    }\n")
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

// Every broker that is shipped knows the same users, with the permissions that the services
// are tested with.
func TestNATS_PermissionsAreThoseOfTheServices(t *testing.T) {
	for name, dir := range shipped {
		file := filepath.Join(dir, "authorization.conf")
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(authorization()), 0o644))
		}
		require.Equal(t, authorization(), read(t, file), "%s: run go test ./services/ledgerfeed/secrets -update", name)
	}
}

// broker is one that runs with the configuration of compose.
type broker struct {
	server *server.Server
	dir    string
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	dir := given(t)
	return &broker{server: devtest.StartNATSConfig(t, secretstest.NATSOptions(t, shipped["compose"], dir)), dir: dir}
}

func (b *broker) url() string { return "tls://" + b.server.Addr().String() }

func (b *broker) file(name string) string { return filepath.Join(b.dir, name) }

// connect is the connection that a service itself makes.
func (b *broker) connect(t *testing.T, user string, setup stream.Setup) *stream.Conn {
	t.Helper()
	return b.connectAs(t, user, user, setup)
}

// connectAs is that of a program whose connections have another name than its user.
func (b *broker) connectAs(t *testing.T, user, name string, setup stream.Setup) *stream.Conn {
	t.Helper()
	c := stream.DefaultConfig()
	c.URL, c.CAFile, c.NkeyFile, c.Setup, c.Profile = b.url(), b.file("ca.crt"), b.file("nats_"+user+".nk"), setup, stream.Dev
	c.EventsMaxBytes, c.RetryMaxBytes, c.DeadMaxBytes, c.ChangesMaxBytes = 64<<20, 64<<20, 64<<20, 64<<20
	conn, err := stream.Connect(t.Context(), stream.Options{Config: c, Name: name})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// raw is a connection of a user without our own code, and the denials that it is told.
func (b *broker) raw(t *testing.T, user string) (*nats.Conn, chan error) {
	t.Helper()
	pair, err := nkeys.ParseDecoratedNKey([]byte(read(t, b.file("nats_"+user+".nk"))))
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	denied := make(chan error, 1000)
	c, err := nats.Connect(b.url(), nats.RootCAs(b.file("ca.crt")), nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix("_INBOX."+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, denied
}

// denials are those of the subjects that something was done with. The client reports them in
// the order in which the server sent them, so that of the last subject, which nobody may use,
// comes after the others.
func denials(t *testing.T, c *nats.Conn, denied chan error) (text string) {
	t.Helper()
	require.NoError(t, c.Publish("nobody.may", nil))
	require.NoError(t, c.Flush())
	for !strings.Contains(text, `"nobody.may"`) {
		select {
		case err := <-denied:
			text += err.Error() + "\n"
		case <-time.After(20 * time.Second):
			t.Fatal("the server denies nothing")
		}
	}
	return text
}

// Who shows no key, one that the server does not know, or speaks without TLS, is turned away.
func TestNATS_RefusesStrangers(t *testing.T) {
	b := startBroker(t)
	stranger, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := stranger.PublicKey()
	require.NoError(t, err)
	for name, o := range map[string][]nats.Option{
		"anonymous": nil,
		"password":  {nats.UserInfo("ingress", "ingress")},
		"token":     {nats.Token("ingress")},
		"other key": {nats.Nkey(public, stranger.Sign)},
	} {
		_, err := nats.Connect(b.url(), append(o, nats.RootCAs(b.file("ca.crt")))...)
		require.ErrorIs(t, err, nats.ErrAuthorization, name)
	}
	_, err = nats.Connect(b.url(), nats.RootCAs(filepath.Join(given(t), "ca.crt")))
	require.ErrorContains(t, err, "unknown authority", "a client trusts no server of another authority")

	plain, err := net.Dial("tcp", b.server.Addr().String())
	require.NoError(t, err)
	defer plain.Close()
	require.NoError(t, plain.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprint(plain, "CONNECT {\"verbose\":false}\r\nPUB lf.event.00.1 0\r\n\r\nPING\r\n")
	require.NoError(t, err)
	answers, buffer := "", make([]byte, 4096)
	for err == nil {
		var n int
		n, err = plain.Read(buffer)
		answers += string(buffer[:n])
	}
	require.NotContains(t, answers, "PONG", "nothing is answered without TLS")
}

// attacks are what one service could do to the work of another, or to the data, by subject.
func attacks() map[string]string {
	all := map[string]string{}
	for _, name := range []string{"LF_EVENTS", "LF_RETRY", "LF_DEAD", "LF_GAPS", "LF_CHANGES", "LF_HEARTBEATS"} {
		for _, question := range []string{"DELETE", "PURGE", "RESTORE", "SNAPSHOT", "LEADER.STEPDOWN", "PEER.REMOVE"} {
			all["$JS.API.STREAM."+question+"."+name] = question + " " + name
		}
		for subject, what := range map[string]string{
			"$JS.API.STREAM.MSG.DELETE.%s":                "delete a message of ",
			"$JS.API.STREAM.UPDATE.%s":                    "change ",
			"$JS.API.CONSUMER.DELETE.%s.processor-00":     "delete a consumer of ",
			"$JS.API.CONSUMER.PAUSE.%s.processor-00":      "pause a consumer of ",
			"$JS.API.CONSUMER.CREATE.%s.stolen.x":         "make a consumer of ",
			"$JS.API.CONSUMER.DURABLE.CREATE.%s.stolen":   "make a durable of ",
			"$JS.API.CONSUMER.MSG.NEXT.%s.processor-00":   "take from ",
			"$JS.ACK.%s.processor-00.1.1.1.1.0":           "ack of ",
			"$JS.API.STREAM.MSG.GET.%s":                   "read ",
			"$JS.API.DIRECT.GET.%s":                       "read directly ",
			"$JS.API.CONSUMER.LEADER.STEPDOWN.%s.stolen":  "move a consumer of ",
			"$JS.API.CONSUMER.UNPIN.%s.processor-00":      "unpin ",
			"$JS.API.CONSUMER.RESET.%s.processor-00":      "reset a consumer of ",
			"$JS.API.CONSUMER.NAMES.%s":                   "list the consumers of ",
			"$JS.API.DIRECT.GET.%s.lf.event.00.9341453":   "read directly by subject ",
			"$JS.API.STREAM.MSG.GET.%s.lf.dead.something": "read by subject ",
		} {
			all[fmt.Sprintf(subject, name)] = what + name
		}
	}
	for _, s := range []string{
		"$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.DELETE.OTHER", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.INFO",
		"$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.$G", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.$G.CONNZ",
		"lf.event.00.1", "lf.retry.pg.00.1", "lf.retry._.00.1", "lf.dead.unreadable.1", "lf.gap.1", "lf.change.1.Invoice", "lf.beat.ingress", "lf.beat.reconciler",
		"_INBOX.ingress.x", "_INBOX.processor.x", "_INBOX.reconciler.x", "_INBOX.console.x", "_INBOX.setup.x", "other",
	} {
		all[s] = s
	}
	return all
}

// own is what of the attacks is a user's own work.
var own = map[string][]string{
	"ingress": {
		"lf.event.00.1", "lf.dead.unreadable.1", "lf.retry._.00.1", "lf.beat.ingress",
		"read LF_DEAD", "read LF_RETRY", // the sizes of what shares a stream are sampled
	},
	"processor": {
		"lf.retry.pg.00.1", "lf.retry._.00.1", "lf.dead.unreadable.1", "lf.gap.1", "lf.change.1.Invoice", "read LF_DEAD", "read LF_RETRY",
		"take from LF_EVENTS", "take from LF_RETRY", "take from LF_GAPS", "ack of LF_EVENTS", "ack of LF_RETRY", "ack of LF_GAPS",
	},
	"reconciler": {
		"lf.event.00.1", "lf.dead.unreadable.1", "lf.gap.1", "read LF_DEAD",
		"make a consumer of LF_HEARTBEATS", "delete a consumer of LF_HEARTBEATS", "take from LF_HEARTBEATS",
	},
	"console": {
		"lf.event.00.1", "read LF_DEAD", "delete a message of LF_DEAD",
		"make a consumer of LF_DEAD", "delete a consumer of LF_DEAD", "take from LF_DEAD",
	},
	"setup": {
		"change LF_EVENTS", "change LF_RETRY", "change LF_DEAD", "change LF_GAPS", "change LF_CHANGES", "change LF_HEARTBEATS",
		"make a consumer of LF_EVENTS", "make a consumer of LF_RETRY", "make a consumer of LF_GAPS",
	},
}

// Each user is refused the work of the others and everything destructive: the whole matrix.
func TestNATS_NoServiceDoesTheWorkOfAnother(t *testing.T) {
	b := startBroker(t)
	for _, user := range users {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			c, denied := b.raw(t, user)
			for subject := range attacks() {
				require.NoError(t, c.Publish(subject, nil))
			}
			refused := denials(t, c, denied)
			var allowed []string
			for subject, what := range attacks() {
				if !strings.Contains(refused, fmt.Sprintf("Publish to %q", subject)) {
					allowed = append(allowed, what)
				}
			}
			want := slices.Sorted(slices.Values(own[user]))
			slices.Sort(allowed)
			require.Equal(t, want, allowed)
		})
	}
}

// Each user hears its own answers, and no event, change or answer of another.
func TestNATS_NoServiceListensToAnother(t *testing.T) {
	b := startBroker(t)
	may := map[string][]string{"reconciler": {"lf.beat.ingress"}}
	for _, user := range users {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			c, denied := b.raw(t, user)
			subjects := map[string]bool{}
			for _, s := range []string{">", "lf.>", "lf.event.>", "lf.dead.>", "lf.change.>", "lf.beat.ingress", "lf.beat.>", "$JS.>", "$SYS.>", "_INBOX.>", "$JS.EVENT.ADVISORY.>"} {
				subjects[s] = slices.Contains(may[user], s)
			}
			for _, other := range users {
				subjects["_INBOX."+other+".x.*"] = other == user
			}
			for s := range subjects {
				_, err := c.SubscribeSync(s)
				require.NoError(t, err)
			}
			refused := denials(t, c, denied)
			for s, allowed := range subjects {
				require.Equal(t, !allowed, strings.Contains(refused, fmt.Sprintf("Subscription to %q", s)), s)
			}
		})
	}
}

// A server without the certificate and the password of the cluster joins none.
func TestNATS_RefusesAServerThatIsNotOurs(t *testing.T) {
	dir := given(t)
	t.Setenv("POD_NAME", "nats-0")
	o := secretstest.NATSOptions(t, shipped["production"], dir)
	o.JetStream, o.Cluster.Host, o.Cluster.Port, o.Routes = false, "127.0.0.1", server.RANDOM_PORT, nil
	member := devtest.StartNATSConfig(t, o)
	require.Eventually(t, func() bool { return member.ClusterAddr() != nil }, 20*time.Second, time.Millisecond)

	for _, tt := range []struct {
		name   string
		change func(*server.Options)
		joins  bool
	}{
		{"ours", func(*server.Options) {}, true},
		{"without TLS", func(o *server.Options) { o.Cluster.TLSConfig = nil }, false},
		{"without a certificate", func(o *server.Options) { o.Cluster.TLSConfig.Certificates = nil }, false},
		{"without the password", func(o *server.Options) { o.Routes[0].User = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("POD_NAME", "nats-"+strings.ReplaceAll(tt.name, " ", "-"))
			own := filepath.Join(t.TempDir(), "run", "secrets")
			require.NoError(t, os.MkdirAll(filepath.Dir(own), 0o755))
			require.NoError(t, os.CopyFS(own, os.DirFS(dir)))
			o := secretstest.NATSOptions(t, shipped["production"], own)
			o.JetStream, o.Cluster.Host, o.Cluster.Port = false, "127.0.0.1", server.RANDOM_PORT
			route := *o.Routes[0]
			route.Host = member.ClusterAddr().String()
			o.Routes = append(o.Routes[:0:0], &route)
			tt.change(o)
			other := devtest.StartNATSConfig(t, o)
			joined := func() bool { return other.NumRoutes() > 0 && member.NumRoutes() > 0 }
			if tt.joins {
				require.Eventually(t, joined, 20*time.Second, 10*time.Millisecond)
				return
			}
			require.Never(t, joined, 2*time.Second, 20*time.Millisecond)
		})
	}
}

// A service that finds nothing set up is not ready and says what to do; after the job it is,
// and what is gone later is said again. It creates nothing in between.
func TestNATS_ServicesWaitForTheSetup(t *testing.T) {
	b := startBroker(t)
	ctx := t.Context()
	conns := map[string]*stream.Conn{}
	for _, user := range []string{"ingress", "processor", "reconciler", "console"} {
		conns[user] = b.connect(t, user, stream.SetupVerify)
		for _, err := range []error{conns[user].EnsureTopology(ctx), conns[user].Ready(ctx)} {
			require.ErrorIs(t, err, stream.ErrNotSetUp, user)
			require.ErrorContains(t, err, "run `ledgerfeed setup`", user)
			require.ErrorContains(t, err, "stream LF_EVENTS is missing", user)
			require.True(t, stream.Temporary(err), user)
		}
	}
	job := b.connect(t, "setup", stream.SetupCreate)
	require.NoError(t, job.EnsureTopology(ctx))
	require.NoError(t, job.EnsureHeartbeats(ctx))
	for _, user := range slices.Sorted(maps.Keys(conns)) {
		require.NoError(t, conns[user].EnsureTopology(ctx), user)
		require.NoError(t, conns[user].RequireAccess(ctx), user)
		require.NoError(t, conns[user].Ready(ctx), user)
	}
}

// The commands that the users of the console and of the setup run leave a record.
func TestNATS_CommandsRecordWhatTheyDid(t *testing.T) {
	b := startBroker(t)
	job := b.connect(t, "setup", stream.SetupCreate)
	require.NoError(t, job.EnsureActions(t.Context()))
	for i, user := range []string{"setup", "console", "setup"} {
		command := b.connectAs(t, user, "ledgerfeed", stream.SetupVerify)
		stored, err := command.AppendAction(t.Context(), stream.ActionMessage{
			ID:     fmt.Sprint(i),
			Encode: func(*stream.StoredAction) ([]byte, error) { return []byte("{}"), nil },
		})
		require.NoError(t, err, user)
		require.EqualValues(t, i+1, stored.Seq)
	}
}
