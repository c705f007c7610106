package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ledgerfeed/ledgerfeed/pkg/connection"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver"
	"github.com/ledgerfeed/ledgerfeed/pkg/devserver/devtest"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo"
	"github.com/ledgerfeed/ledgerfeed/pkg/qbo/webhook"
	"github.com/ledgerfeed/ledgerfeed/pkg/secret"
	"github.com/ledgerfeed/ledgerfeed/pkg/state"
	"github.com/ledgerfeed/ledgerfeed/pkg/stream"
	"github.com/ledgerfeed/ledgerfeed/services/ledgerfeed/doctor"
	"github.com/ledgerfeed/ledgerfeed/services/processor"
)

const (
	host  = "hooks.example.com"
	token = "verifier-token-1"
	realm = "9130347712345678"
)

// system is a set-up that nothing is wrong with, until a test breaks it.
type system struct {
	t           *testing.T
	options     doctor.Options
	roots       *x509.CertPool
	listener    http.HandlerFunc
	redis       *redis.Client
	store       *state.Store
	connections *connection.Store
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, roots: x509.NewCertPool()}
	s.listener = func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = webhook.Verify(body, r.Header.Get(webhook.SignatureHeader), []secret.String{token})
		}
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
	cfg := doctor.DefaultConfig()
	cfg.Ingress.Apps = "production=" + token
	cfg.Connection.Keys = []secret.String{secret.String("test:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))}
	cfg.QBO.ClientID, cfg.QBO.ClientSecret = "id", "hush"
	api := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(api.Close)
	cfg.QBO.BaseURL = api.URL

	address := devtest.RealRedis(t)
	cfg.Redis.URL = secret.String(address)
	o, err := redis.ParseURL(address)
	require.NoError(t, err)
	s.redis = redis.NewClient(o)
	t.Cleanup(func() { s.redis.Close() })
	s.set("appendonly", "yes")
	s.set("maxmemory-policy", "noeviction")
	s.store, err = state.Open(t.Context(), state.Options{Config: cfg.Redis})
	require.NoError(t, err)
	t.Cleanup(func() { s.store.Close() })
	s.options.Config = cfg
	s.connections = s.connectionsBy(noRefresh{})

	cfg.NATS = s.broker(true)
	cfg.Processor.Sinks = []string{"jsonl:" + t.TempDir() + "/changes.jsonl"}
	s.options = doctor.Options{Config: cfg, Tries: 5}
	return s
}

func (s *system) connectionsBy(r connection.Refresher) *connection.Store {
	s.t.Helper()
	c, err := connection.New(connection.Options{State: s.store, Config: s.options.Config.Connection, Refresher: r})
	require.NoError(s.t, err)
	return c
}

// oauth refuses every refresh.
type oauth struct{ client, description string }

func (o *oauth) ClientID() string { return o.client }

func (o *oauth) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, &qbo.OAuthError{Status: http.StatusBadRequest, Code: "invalid_grant", Description: o.description, TID: "1-tid"}
}

type noRefresh struct{}

func (noRefresh) Refresh(context.Context, secret.String) (qbo.Token, error) {
	return qbo.Token{}, io.ErrUnexpectedEOF
}

func (s *system) set(name, value string) {
	s.t.Helper()
	require.NoError(s.t, s.redis.ConfigSet(s.t.Context(), name, value).Err())
}

// broker starts one, with the streams.
func (s *system) broker(synced bool) stream.Config {
	s.t.Helper()
	server, err := devserver.StartNATS(devserver.NATSOptions{Dir: s.t.TempDir(), SyncAlways: synced, Monitor: true})
	require.NoError(s.t, err)
	s.t.Cleanup(server.Close)
	cfg := stream.DefaultConfig()
	cfg.URL, cfg.MonitorURL, cfg.Profile = server.URL(), server.MonitorURL(), stream.Single
	conn, err := stream.Connect(s.t.Context(), stream.Options{Config: cfg})
	require.NoError(s.t, err)
	defer conn.Close()
	require.NoError(s.t, conn.EnsureTopology(s.t.Context()))
	return cfg
}

// compress turns the compression of a stream on, as earlier versions created it.
func (s *system) compress(name string) {
	s.t.Helper()
	devtest.CompressStream(s.t, s.options.Config.NATS.URL, name)
}

// editConsumer is a processor that has run, and somebody who has edited a consumer of it.
func (s *system) editConsumer() {
	s.t.Helper()
	conn, err := stream.Connect(s.t.Context(), stream.Options{Config: s.options.Config.NATS})
	require.NoError(s.t, err)
	defer conn.Close()
	all := processor.Consumers(s.options.Config.Processor, nil)
	for _, o := range all {
		ctx, stop := context.WithCancel(s.t.Context())
		done := make(chan error, 1)
		go func() { done <- conn.Consume(ctx, o, func(*stream.Message) {}) }()
		require.Eventually(s.t, func() bool { return conn.ConsumerDrift(ctx, o) == nil }, 20*time.Second, 5*time.Millisecond)
		stop()
		require.NoError(s.t, <-done)
	}
	devtest.EditConsumer(s.t, s.options.Config.NATS.URL, stream.EventStream, all[0].Durable, 3)
}

// connect connects the realm with a token that can be refreshed until then.
func (s *system) connect(until time.Time) {
	s.t.Helper()
	require.NoError(s.t, s.connections.Connect(s.t.Context(), realm, "production", qbo.Token{
		Access: "a", Refresh: "r", AccessExpires: time.Now().Add(time.Hour), RefreshExpires: until, RefreshHardExpires: time.Now().Add(5 * 365 * 24 * time.Hour),
	}))
}

// look serves the listener by TLS, with a certificate of an authority that Intuit
// trusts or with one that signed itself, and returns what doctor finds.
func (s *system) look(selfSigned bool) doctor.Report {
	s.t.Helper()
	server := httptest.NewUnstartedServer(s.listener)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{s.certificate(selfSigned)}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	s.t.Cleanup(server.Close)
	o := s.options
	o.Roots = s.roots
	o.PublicURL = &url.URL{Scheme: "https", Host: host, Path: "/webhooks/production"}
	o.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
	}
	o.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	return doctor.Look(s.t.Context(), o)
}

func (s *system) certificate(selfSigned bool) tls.Certificate {
	s.t.Helper()
	root, rootKey := s.sign("authority", nil, nil)
	if selfSigned {
		leaf, key := s.sign(host, nil, nil)
		return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	}
	s.roots.AddCert(root)
	leaf, key := s.sign(host, root, rootKey)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

func (s *system) sign(name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if by == nil {
		by, byKey = template, key
		if name != host {
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by, &key.PublicKey, byKey)
	require.NoError(s.t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(s.t, err)
	return cert, key
}

// text is a report as a person reads it.
func text(r doctor.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		f.Print(&b)
	}
	return b.String()
}

func TestDoctor_AHealthySystemHasNoFinding(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.connect(time.Now().Add(100 * 24 * time.Hour))
	r := s.look(false)
	require.Zero(t, r.Count(doctor.Fail), text(r))
	require.Zero(t, r.Count(doctor.Warn), text(r))
	require.NotContains(t, text(r), token+" ")
}

// Each of these is found, named, and said what to do about; nothing else fails for it.
func TestDoctor_FindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		breaks     func(*testing.T, *system)
		selfSigned bool
		check      string
		want, do   string
	}{
		{name: "self-signed chain", selfSigned: true, check: "certificate", want: "self-signed", do: "public authority"},
		{name: "slow endpoint", breaks: func(_ *testing.T, s *system) {
			s.options.Patience = 500 * time.Millisecond
			fast := s.listener
			s.listener = func(w http.ResponseWriter, r *http.Request) {
				fast(&late{ResponseWriter: w, by: 700 * time.Millisecond}, r)
			}
		}, check: "probe", want: "had no answer within 500ms", do: "latency of the broker's disk"},
		{name: "wrong token", breaks: func(_ *testing.T, s *system) { s.options.Token = "another" }, check: "probe", want: "answered 401", do: "verifier token"},
		{name: "Redis without AOF", breaks: func(_ *testing.T, s *system) { s.set("appendonly", "no") }, check: "redis-disk", want: "appendonly is no", do: "set appendonly yes"},
		{name: "Redis that evicts", breaks: func(_ *testing.T, s *system) { s.set("maxmemory-policy", "allkeys-lru") }, check: "redis-memory", want: "allkeys-lru", do: "noeviction"},
		{name: "broker without sync always", breaks: func(_ *testing.T, s *system) { s.options.Config.NATS = s.broker(false) }, check: "durability", want: "sync_interval 2m0s instead of always", do: "set sync_interval: always"},
		{name: "compressed event stream", breaks: func(_ *testing.T, s *system) { s.compress(stream.EventStream) }, check: "stream-compression", want: "LF_EVENTS is compressed", do: "nats stream edit LF_EVENTS --compression none"},
		{name: "compressed gap log", breaks: func(_ *testing.T, s *system) { s.compress(stream.GapStream) }, check: "stream-compression", want: "LF_GAPS is compressed", do: "restart a service"},
		{name: "consumer edited by hand", breaks: func(_ *testing.T, s *system) { s.editConsumer() }, check: "stream-consumers", want: "max_deliver is 3 on the server, but -1 is configured", do: "restart a processor"},
		{name: "expired token", breaks: func(_ *testing.T, s *system) { s.connect(time.Now().Add(-time.Hour)) }, check: "tokens", want: "have expired: " + realm, do: "connect them again"},
		{name: "tokens of another client id", breaks: func(_ *testing.T, s *system) {
			s.connections = s.connectionsBy(&oauth{client: "development"})
			s.connect(time.Now().Add(100 * 24 * time.Hour))
		}, check: "tokens", want: "belong to another client id than id, and are not refreshed: " + realm + " of development", do: "LEDGERFEED_QBO_CLIENT_ID"},
		{name: "wrong keys", breaks: func(t *testing.T, s *system) {
			s.connections = s.connectionsBy(&oauth{description: "Incorrect Token type or clientID"})
			s.connect(time.Now().Add(100 * 24 * time.Hour))
			_, held := connection.RetryAfter(s.connections.Refresh(t.Context(), realm))
			require.True(t, held)
		}, check: "tokens", want: "Incorrect Token type or clientID, intuit_tid 1-tid", do: "Keys & credentials"},
		{name: "refused token", breaks: func(t *testing.T, s *system) {
			s.connections = s.connectionsBy(&oauth{description: "Token invalid"})
			s.connect(time.Now().Add(100 * 24 * time.Hour))
			require.ErrorIs(t, s.connections.Refresh(t.Context(), realm), connection.ErrReauthRequired)
		}, check: "connections", want: "Token invalid, intuit_tid 1-tid; tried again at", do: "ledgerfeed token refresh"},
		{name: "lost connection record", breaks: func(t *testing.T, s *system) {
			require.NoError(t, s.redis.Del(t.Context(), "lf:1:conn:{"+realm+"}").Err())
		}, check: "connections", want: "lost the connection records of 1 companies, with their tokens: " + realm, do: "connect it again"},
		{name: "API that refuses fresh tokens", breaks: func(t *testing.T, s *system) {
			key := "lf:1:conn:{" + realm + "}"
			require.NoError(t, s.redis.HSet(t.Context(), key, "held", time.Now().Add(time.Minute).UnixMilli()).Err())
		}, check: "tokens", want: "answers 401 to tokens that it issued just before, for 1 companies: " + realm, do: "status page"},
		{name: "disconnected here only", breaks: func(t *testing.T, s *system) {
			require.NoError(t, s.connections.Disconnect(t.Context(), realm))
			require.NoError(t, s.connections.NoteLate(t.Context(), realm, 3))
			key := "lf:1:conn:{" + realm + "}"
			require.NoError(t, s.redis.HSet(t.Context(), key, "changed", time.Now().Add(-2*time.Hour).UnixMilli()).Err())
		}, check: "connections", want: "webhooks come for 1 companies that are disconnected: their authorisation is active at Intuit: " + realm + " (3", do: "Disconnect"},
		{name: "an entity whose webhooks never come", breaks: func(t *testing.T, s *system) {
			told := s.store.Sightings(nil)
			told.Note(realm, state.Webhook{Kind: state.Kind{Entity: "Bill", Operation: "create"}, ID: "1", Event: time.Now(), Received: time.Now(), First: true})
			require.NoError(t, told.Flush(t.Context()))
			for i := range 12 {
				one := fmt.Sprint(9130347700000000 + i)
				var gaps []state.Gap
				for j := range 5 {
					gaps = append(gaps, state.Gap{
						Realm: one, Ref: state.Ref{Entity: "Invoice", ID: fmt.Sprint(j)}, Version: int64(j + 1), Found: time.Now(),
						Event: time.Now().Add(-time.Hour), Operation: "update", Source: "cdc", Verdict: state.VerdictNotSelected,
					})
				}
				fresh, err := s.store.NoteGaps(t.Context(), one, gaps)
				require.NoError(t, err)
				require.NoError(t, s.store.CountGaps(t.Context(), one, fresh, map[state.Kind]bool{{Entity: "Invoice", Operation: "update"}: true}))
			}
		}, check: "webhooks", want: "Invoice", do: "portal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			s.connect(time.Now().Add(100 * 24 * time.Hour))
			if tc.breaks != nil {
				tc.breaks(t, s)
			}
			r := s.look(tc.selfSigned)
			found := false
			for _, f := range r.Findings {
				if f.Level != doctor.Fail && f.Level != doctor.Warn {
					continue
				}
				require.Equal(t, tc.check, f.Check, text(r))
				found = found || strings.Contains(f.Text, tc.want) && strings.Contains(f.Do, tc.do)
			}
			require.True(t, found, text(r))
		})
	}
}

// late answers what is right too late.
type late struct {
	http.ResponseWriter
	by time.Duration
}

func (l *late) WriteHeader(code int) {
	if code == http.StatusOK {
		time.Sleep(l.by)
	}
	l.ResponseWriter.WriteHeader(code)
}

// Many companies that Intuit refuses are one result.
func TestApp_ARefusedAppIsOneResult(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.connect(time.Now().AddDate(0, 3, 0))
	for _, id := range []string{realm, "2", "3"} {
		_, err := s.store.NoteRefused(t.Context(), "production", id, state.AppRefusal{By: state.RefusedByAPI, Message: "403 3100 ApplicationAuthorizationFailed", TID: "1-abc"})
		require.NoError(t, err)
	}
	var found []doctor.Finding
	for _, f := range s.look(false).Findings {
		if strings.Contains(f.Text, "Intuit refuses") {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1)
	require.Equal(t, "app", found[0].Check)
	require.Equal(t, doctor.Fail, found[0].Level)
	for _, part := range []string{"production", "3100", "1-abc", s.options.Config.QBO.BaseURL, "qbo.client_id id"} {
		require.Contains(t, found[0].Text, part)
	}
	for _, part := range []string{"qbo.client_id", "qbo.client_secret", "qbo.base_url", "environment"} {
		require.Contains(t, found[0].Do, part)
	}
}

// With wrong keys the token endpoint refuses the token of each company: that is one result, too.
func TestApp_RefusedTokensOfARefusedAppAreOneResult(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.connections = s.connectionsBy(&oauth{description: "Incorrect Token type or clientID"})
	s.connect(time.Now().Add(100 * 24 * time.Hour))
	_, held := connection.RetryAfter(s.connections.Refresh(t.Context(), realm))
	require.True(t, held)
	for _, id := range []string{realm, "2"} {
		_, err := s.store.NoteRefused(t.Context(), "production", id, state.AppRefusal{By: state.RefusedByOAuth, Message: "invalid_grant: Incorrect Token type or clientID"})
		require.NoError(t, err)
	}
	var found []string
	for _, f := range s.look(false).Findings {
		if strings.Contains(f.Text, "Intuit refuses") {
			found = append(found, f.Check)
		}
	}
	require.Equal(t, []string{"app"}, found)
}

// A company that is not read says why: Intuit's words, or a person's reason.
func TestConnections_SayWhyACompanyIsNotRead(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.connect(time.Now().AddDate(0, 3, 0))
	require.NoError(t, s.connections.SetState(t.Context(), realm, connection.Parked, "invoice unpaid"))
	text := fmt.Sprint(s.look(false).Findings)
	require.Contains(t, text, "invoice unpaid")
	require.NotContains(t, text, "authorisation")
	require.NotContains(t, text, "no company is connected")

	require.NoError(t, s.connections.SetState(t.Context(), realm, connection.Live, ""))
	_, err := s.connections.NoteAccessRefusal(t.Context(), realm, connection.AccessRefusal{As: connection.NoAccess, Message: "401 120 You do not have access", TID: "1-xyz"}, time.Hour)
	require.NoError(t, err)
	_, err = s.connections.Refuse(t.Context(), realm, connection.NoAccess, "why", time.Hour)
	require.NoError(t, err)
	text = fmt.Sprint(s.look(false).Findings)
	for _, part := range []string{"You do not have access", "1-xyz", connection.NoAccess.Remedy(), realm} {
		require.Contains(t, text, part)
	}
}

// Webhooks of another app than the company's are named, with both apps.
func TestConnections_NameWebhooksOfAnotherApp(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	now := time.Now()
	require.NoError(t, s.connections.Connect(t.Context(), realm, "production", qbo.Token{Access: "a", Refresh: "r", AccessExpires: now.Add(time.Hour)}))
	_, err := s.store.NoteForeign(t.Context(), state.Foreign{Realm: realm, App: "sandbox", Connected: "production", Events: 3})
	require.NoError(t, err)
	report := doctor.Look(t.Context(), s.options)
	var found []string
	for _, f := range report.Findings {
		if f.Level == doctor.Fail && strings.Contains(f.Text, "another app") {
			found = append(found, f.Text+" "+f.Do)
		}
	}
	require.Len(t, found, 1)
	require.Contains(t, found[0], realm+" (connected to production, 3 events of sandbox")
	require.Contains(t, found[0], "processor.app_aliases")

	s.options.Now = func() time.Time { return now.Add(25 * time.Hour) }
	for _, f := range doctor.Look(t.Context(), s.options).Findings {
		require.NotContains(t, f.Text, "another app")
	}
}
